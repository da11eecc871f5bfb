//! Products and orders: what is sold, and what was bought.

use axum::{Json as Reply, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, Path, Seller,
    body::{self, Json},
    error::{Problem, ProblemBody},
};
use crate::domain::{self, NewProduct, Order, Product};

/// Characters of a product's name.
const NAME_MAX_CHARS: usize = 200;
/// Characters of a product's description.
const DESCRIPTION_MAX_CHARS: usize = 4_000;
/// Products that one list shows.
const LIST_MAX: u32 = 1_000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find))
        .routes(routes!(find_order))
}

/// A product to sell.
#[derive(Deserialize, utoipa::ToSchema)]
struct ProductBody {
    /// Not blank.
    #[schema(example = "Keyboard", min_length = 1, max_length = 200)]
    name: String,
    /// Above 0, in the shop's smallest unit.
    #[schema(example = 100_000, minimum = 1)]
    #[serde(deserialize_with = "body::whole")]
    price: i64,
    /// Free text.
    #[serde(default)]
    description: Option<String>,
}

impl TryFrom<ProductBody> for NewProduct {
    type Error = Problem;

    fn try_from(body: ProductBody) -> Result<Self, Problem> {
        let description = body.description.unwrap_or_default();
        if body.name.trim().is_empty() || body.name.chars().count() > NAME_MAX_CHARS {
            return Err(Problem::malformed(format!(
                "name: 1 to {NAME_MAX_CHARS} characters, not blank"
            )));
        }
        // The one that no database keeps.
        for (field, text) in [("name", &body.name), ("description", &description)] {
            if text.contains('\0') {
                return Err(Problem::malformed(format!(
                    "{field}: the character U+0000 is none of a text"
                )));
            }
        }
        if body.price <= 0 {
            return Err(Problem::malformed("price: must be above 0"));
        }
        if description.chars().count() > DESCRIPTION_MAX_CHARS {
            return Err(Problem::malformed(format!(
                "description: at most {DESCRIPTION_MAX_CHARS} characters"
            )));
        }
        Ok(Self {
            name: body.name,
            price: body.price,
            description,
        })
    }
}

/// A product.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProductReply {
    id: i64,
    name: String,
    price: i64,
    description: String,
    created_at: Timestamp,
}

impl From<Product> for ProductReply {
    fn from(product: Product) -> Self {
        Self {
            id: product.id,
            name: product.name,
            price: product.price,
            description: product.description,
            created_at: product.created_at,
        }
    }
}

/// An order.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrderReply {
    id: i64,
    request_id: String,
    time_sale_id: i64,
    product_id: i64,
    user_id: i64,
    quantity: u32,
    /// Price of one piece at the time of the purchase.
    discount_price: i64,
    version: String,
    accepting_revision: String,
    settling_revision: String,
    created_at: Timestamp,
}

impl From<Order> for OrderReply {
    fn from(order: Order) -> Self {
        Self {
            id: order.id,
            request_id: order.request_id.0.into(),
            time_sale_id: order.sale_id,
            product_id: order.product_id,
            user_id: order.user_id,
            quantity: order.quantity,
            discount_price: order.discount_price,
            version: order.version.to_string(),
            accepting_revision: order.accepting_revision.0.into(),
            settling_revision: order.settling_revision.0.into(),
            created_at: order.created_at,
        }
    }
}

/// Adds a product.
#[utoipa::path(post, path = "/api/v1/products", tag = "products", request_body = ProductBody, responses(
    (status = 201, body = ProductReply),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "The sellers' token is set and not shown", body = ProblemBody, content_type = "application/problem+json"),
    (status = 413, body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    (status = 504, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn create(
    State(app): State<App>,
    _: Seller,
    Json(body): Json<ProductBody>,
) -> Result<(StatusCode, Reply<ProductReply>), Problem> {
    let product = app
        .backends
        .database
        .create_product(&body.try_into()?, domain::now())
        .await?;
    Ok((StatusCode::CREATED, Reply(product.into())))
}

/// Lists products.
#[utoipa::path(get, path = "/api/v1/products", tag = "products", responses((status = 200, body = [ProductReply])))]
async fn list(State(app): State<App>) -> Result<Reply<Vec<ProductReply>>, Problem> {
    let products = app.backends.database.products(LIST_MAX).await?;
    Ok(Reply(products.into_iter().map(Into::into).collect()))
}

/// Reads a product.
#[utoipa::path(get, path = "/api/v1/products/{id}", tag = "products", params(("id" = i64, Path)), responses(
    (status = 200, body = ProductReply),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn find(State(app): State<App>, Path(id): Path<i64>) -> Result<Reply<ProductReply>, Problem> {
    let product = app.backends.database.product(id).await?;
    product
        .map(|product| Reply(product.into()))
        .ok_or_else(|| Problem::not_found("product", id))
}

/// Reads an order.
#[utoipa::path(get, path = "/api/v1/orders/{id}", tag = "orders", params(("id" = i64, Path)), responses(
    (status = 200, body = OrderReply),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn find_order(
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Reply<OrderReply>, Problem> {
    let order = app.backends.database.order(id).await?;
    order
        .map(|order| Reply(order.into()))
        .ok_or_else(|| Problem::not_found("order", id))
}
