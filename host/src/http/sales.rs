//! Time sales: planned by sellers, listed and read by buyers.
//!
//! A sale belongs to no version; the version in the path only has to be one that is served.

use axum::{Json as Reply, extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, Path, Query, Seller,
    body::{self, Json},
    error::{Problem, ProblemBody},
};
use crate::{
    backend::database::{SaleQuery, SaleSort},
    domain::{self, NewSale, Sale, Status, to_milliseconds},
};

/// Pieces that a sale may have.
const QUANTITY_MAX: i64 = 1_000_000_000;
/// Sales on a page, at most.
const PAGE_SIZE_MAX: u32 = 200;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find))
}

/// A sale to plan.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct SaleBody {
    /// The product to sell.
    #[schema(example = 1, minimum = 1)]
    #[serde(deserialize_with = "body::whole")]
    product_id: i64,
    /// Pieces, above 0.
    #[schema(example = 100, minimum = 1, maximum = 1_000_000_000)]
    #[serde(deserialize_with = "body::whole")]
    quantity: i64,
    /// Price of one piece, above 0, in the shop's smallest unit.
    #[schema(example = 50_000, minimum = 1)]
    #[serde(deserialize_with = "body::whole")]
    discount_price: i64,
    /// First moment of the window: RFC 3339 with an offset.
    #[serde(deserialize_with = "body::moment")]
    start_at: Timestamp,
    /// First moment after the window: RFC 3339 with an offset.
    #[serde(deserialize_with = "body::moment")]
    end_at: Timestamp,
    /// Pieces that one user may buy; unlimited where absent.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "body::whole_or_null")]
    limit_per_user: Option<u32>,
}

impl TryFrom<SaleBody> for NewSale {
    type Error = Problem;

    fn try_from(body: SaleBody) -> Result<Self, Problem> {
        let start_at = to_milliseconds(body.start_at);
        let end_at = to_milliseconds(body.end_at);
        if !(1..=QUANTITY_MAX).contains(&body.quantity) {
            return Err(Problem::malformed(format!(
                "quantity: must lie between 1 and {QUANTITY_MAX}"
            )));
        }
        if body.discount_price <= 0 {
            return Err(Problem::malformed("discountPrice: must be above 0"));
        }
        if start_at >= end_at {
            return Err(Problem::malformed("startAt: must be before endAt"));
        }
        if body.limit_per_user == Some(0) {
            return Err(Problem::malformed(
                "limitPerUser: must be above 0, or absent",
            ));
        }
        Ok(Self {
            product_id: body.product_id,
            quantity: body.quantity,
            discount_price: body.discount_price,
            start_at,
            end_at,
            limit_per_user: body.limit_per_user,
        })
    }
}

/// Where a sale stands.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum StatusName {
    /// Before the window.
    Scheduled,
    /// In the window, with pieces left.
    Active,
    /// In the window, with none left.
    SoldOut,
    /// After the window.
    Ended,
}

impl From<Status> for StatusName {
    fn from(status: Status) -> Self {
        match status {
            Status::Scheduled => Self::Scheduled,
            Status::Active => Self::Active,
            Status::SoldOut => Self::SoldOut,
            Status::Ended => Self::Ended,
        }
    }
}

fn status_named(name: &str) -> Result<Status, Problem> {
    match name {
        "SCHEDULED" => Ok(Status::Scheduled),
        "ACTIVE" => Ok(Status::Active),
        "SOLD_OUT" => Ok(Status::SoldOut),
        "ENDED" => Ok(Status::Ended),
        _ => Err(Problem::malformed(
            "status: SCHEDULED, ACTIVE, SOLD_OUT or ENDED, repeated or with commas",
        )),
    }
}

/// A sale.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct SaleReply {
    id: i64,
    product_id: i64,
    quantity: i64,
    remaining_quantity: i64,
    discount_price: i64,
    start_at: Timestamp,
    end_at: Timestamp,
    limit_per_user: Option<u32>,
    status: StatusName,
    created_at: Timestamp,
}

impl From<Sale> for SaleReply {
    fn from(sale: Sale) -> Self {
        Self {
            status: sale.status(Timestamp::now()).into(),
            id: sale.id,
            product_id: sale.product_id,
            quantity: sale.quantity,
            remaining_quantity: sale.remaining,
            discount_price: sale.discount_price,
            start_at: sale.start_at,
            end_at: sale.end_at,
            limit_per_user: sale.limit_per_user,
            created_at: sale.created_at,
        }
    }
}

/// A page of sales, in the shape of Spring's pages.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct PageReply {
    content: Vec<SaleReply>,
    total_elements: u64,
    total_pages: u64,
    /// This page, from 0.
    number: u64,
    /// Sales on a full page.
    size: u32,
    first: bool,
    last: bool,
    number_of_elements: usize,
    empty: bool,
}

/// Which sales to list.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The page, from 0.
    #[serde(default)]
    page: u32,
    /// Sales on a page, 1 to 200; 20 where absent.
    #[param(minimum = 1, maximum = 200)]
    size: Option<u32>,
    /// id, startAt, endAt, discountPrice, remainingQuantity or createdAt, and `,asc` or `,desc`.
    sort: Option<String>,
    /// SCHEDULED, ACTIVE, SOLD_OUT or ENDED, repeated or with commas; ACTIVE and SOLD_OUT where absent.
    #[serde(default)]
    status: Vec<String>,
}

impl TryFrom<ListQuery> for SaleQuery {
    type Error = Problem;

    fn try_from(query: ListQuery) -> Result<Self, Problem> {
        let size = query.size.unwrap_or(20);
        if !(1..=PAGE_SIZE_MAX).contains(&size) {
            return Err(Problem::malformed(format!(
                "size: must lie between 1 and {PAGE_SIZE_MAX}"
            )));
        }
        let (sort, descending) = sort_named(query.sort.as_deref().unwrap_or("id"))?;
        let statuses = query
            .status
            .iter()
            .flat_map(|names| names.split(','))
            .map(status_named)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            now: domain::now(),
            statuses: if statuses.is_empty() {
                vec![Status::Active, Status::SoldOut]
            } else {
                statuses
            },
            sort,
            descending,
            page: u64::from(query.page),
            size,
        })
    }
}

fn sort_named(name: &str) -> Result<(SaleSort, bool), Problem> {
    let (field, direction) = name.split_once(',').unwrap_or((name, "asc"));
    let sort = match field {
        "id" => SaleSort::Id,
        "startAt" => SaleSort::StartAt,
        "endAt" => SaleSort::EndAt,
        "discountPrice" => SaleSort::DiscountPrice,
        "remainingQuantity" => SaleSort::RemainingQuantity,
        "createdAt" => SaleSort::CreatedAt,
        _ => {
            return Err(Problem::malformed(
                "sort: id, startAt, endAt, discountPrice, remainingQuantity or createdAt",
            ));
        }
    };
    match direction.to_ascii_lowercase().as_str() {
        "asc" => Ok((sort, false)),
        "desc" => Ok((sort, true)),
        _ => Err(Problem::malformed("sort: the direction is asc or desc")),
    }
}

/// Plans a sale.
#[utoipa::path(post, path = "/api/{v}/time-sales", tag = "time sales", request_body = SaleBody,
    params(("v" = String, Path, example = "v1")), responses(
    (status = 201, body = SaleReply),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 401, description = "The sellers' token is set and not shown", body = ProblemBody, content_type = "application/problem+json"),
    (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, description = "No such version or product", body = ProblemBody, content_type = "application/problem+json"),
    (status = 413, body = ProblemBody, content_type = "application/problem+json"),
    (status = 504, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn create(
    State(app): State<App>,
    Path(v): Path<String>,
    _: Seller,
    Json(body): Json<SaleBody>,
) -> Result<(StatusCode, Reply<SaleReply>), Problem> {
    app.strategy(&v)?;
    let new = NewSale::try_from(body)?;
    let sale = app
        .backends
        .database
        .create_sale(&new, domain::now())
        .await?;
    sale.map(|sale| (StatusCode::CREATED, Reply(sale.into())))
        .ok_or_else(|| Problem::not_found("product", new.product_id))
}

/// Reads a sale.
#[utoipa::path(get, path = "/api/{v}/time-sales/{id}", tag = "time sales",
    params(("v" = String, Path, example = "v1"), ("id" = i64, Path)), responses(
    (status = 200, body = SaleReply),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn find(
    State(app): State<App>,
    Path((v, id)): Path<(String, i64)>,
) -> Result<Reply<SaleReply>, Problem> {
    app.strategy(&v)?;
    let sale = app.backends.database.sale(id).await?;
    sale.map(|sale| Reply(sale.into()))
        .ok_or_else(|| Problem::not_found("time sale", id))
}

/// Lists sales.
#[utoipa::path(get, path = "/api/{v}/time-sales", tag = "time sales",
    params(("v" = String, Path, example = "v1"), ListQuery), responses(
    (status = 200, body = PageReply),
    (status = 404, description = "No such version", body = ProblemBody, content_type = "application/problem+json"),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list(
    State(app): State<App>,
    Path(v): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Reply<PageReply>, Problem> {
    app.strategy(&v)?;
    let query = SaleQuery::try_from(query)?;
    let found = app.backends.database.sales(&query).await?;
    let total_pages = found.total.div_ceil(u64::from(query.size));
    Ok(Reply(PageReply {
        number_of_elements: found.sales.len(),
        empty: found.sales.is_empty(),
        content: found.sales.into_iter().map(Into::into).collect(),
        total_elements: found.total,
        total_pages,
        number: query.page,
        size: query.size,
        first: query.page == 0,
        last: query.page + 1 >= total_pages,
    }))
}
