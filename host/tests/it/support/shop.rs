//! What a client can do: plan a sale, buy, ask for a result.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    answer::{Answer, Outcome, Reply, Standing},
    within,
};

/// The price at which every sale of these tests sells.
pub const DISCOUNT_PRICE: i64 = 50_000;

/// How long a buyer waits before asking again what became of a request.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A client of one host.
#[derive(Clone)]
pub struct Shop {
    client: Client,
    base: String,
}

impl Shop {
    /// A client of the host that serves there.
    pub fn new(base: String) -> Self {
        // What a host redirects to is looked at, not followed.
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            client: client.unwrap(),
            base,
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Host and port of the public listener.
    pub fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap()
    }

    /// A request to the public listener.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Reads a path.
    pub async fn get(&self, path: &str) -> Reply {
        self.try_get(path).await.unwrap()
    }

    /// Reads a path of a host that may have stopped.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Reply> {
        let response = self.request(Method::GET, path).send().await?;
        Ok(Reply::read(response).await)
    }

    /// Sends JSON to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = self.request(Method::POST, path).json(body);
        Reply::read(request.send().await.unwrap()).await
    }

    /// Adds a product.
    pub async fn product(&self) -> u64 {
        let body = json!({ "name": "Keyboard", "price": 100_000, "description": "Clicks." });
        self.post("/api/v1/products", &body).await.created()
    }

    /// Plans a sale that is open now.
    pub async fn sale(&self, quantity: u64) -> u64 {
        self.sale_with(quantity, json!({})).await
    }

    /// Plans a sale that is open now, save for what is said otherwise.
    pub async fn sale_with(&self, quantity: u64, otherwise: Value) -> u64 {
        let mut sale = json!({
            "productId": self.product().await,
            "quantity": quantity,
            "discountPrice": DISCOUNT_PRICE,
            "startAt": "2020-01-01T00:00:00+09:00",
            "endAt": "2099-01-01T00:00:00Z",
        });
        let fields = sale.as_object_mut().unwrap();
        fields.extend(otherwise.as_object().unwrap().clone());
        self.post("/api/v1/time-sales", &sale).await.created()
    }

    /// A purchase, to be sent.
    pub fn buy(&self, version: &str, sale: u64, user: u64, quantity: u64) -> Purchase {
        let path = format!("/api/{version}/time-sales/{sale}/purchase");
        let body = json!({ "userId": user, "quantity": quantity });
        Purchase {
            request: self.request(Method::POST, &path).json(&body),
            shop: self.clone(),
        }
    }

    /// What became of an accepted request so far, asked by who has lost its place in the log.
    pub async fn result(&self, sale: u64, request: &str) -> Standing {
        self.result_at(&result_path(sale, request)).await
    }

    /// The same, asked with a place in the log.
    pub async fn result_at_place(&self, sale: u64, request: &str, place: &str) -> Standing {
        let path = result_path(sale, request);
        self.result_at(&format!("{path}?place={place}")).await
    }

    /// The same at a place where it is told.
    async fn result_at(&self, path: &str) -> Standing {
        self.get(path).await.done()
    }

    /// Waits until it is final.
    pub async fn settled(&self, sale: u64, request: &str) -> Standing {
        self.settled_at(&result_path(sale, request)).await
    }

    async fn settled_at(&self, path: &str) -> Standing {
        let settled = async {
            loop {
                let standing = self.result_at(path).await;
                if standing.status != "PENDING" {
                    return standing;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        within("the result", settled).await
    }
}

fn result_path(sale: u64, request: &str) -> String {
    format!("/api/v1/time-sales/purchase/result/{sale}/{request}")
}

/// A purchase, to be sent.
pub struct Purchase {
    request: RequestBuilder,
    shop: Shop,
}

impl Purchase {
    /// With this idempotency key.
    pub fn key(mut self, key: &str) -> Self {
        self.request = self.request.header("idempotency-key", key);
        self
    }

    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// Sends it to a host that may be killed meanwhile.
    pub async fn try_send(self) -> reqwest::Result<Answer> {
        let response = self.request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await?;
        Ok(Answer::of(&Reply {
            status,
            headers,
            body,
        }))
    }

    /// Sends it and waits until what it became is final, asking where the answer says.
    pub async fn follow(self) -> Answer {
        let shop = self.shop.clone();
        let mut answer = self.send().await;
        if let Outcome::Accepted(_) = &answer.outcome {
            let place = answer.location.as_deref().unwrap();
            answer.standing = Some(shop.settled_at(place).await);
        }
        answer
    }
}
