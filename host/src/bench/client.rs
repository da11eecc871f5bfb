//! One connection to a listener: kept alive, and opened again where it broke.
//!
//! hyper's bare connection and no pool above it: what a load generator spends on itself, it takes from the host beside it.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long an answer may take: longer than any host with sound bounds takes for one.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Where a listener is: this machine, and nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Address(SocketAddr);

impl Address {
    /// Finds the address of a URL; refuses one that leads to another machine.
    pub async fn of(url: &Uri) -> anyhow::Result<Self> {
        anyhow::ensure!(
            url.scheme_str() == Some("http"),
            "{url}: a listener is given as http://host:port"
        );
        let host = url
            .host()
            .with_context(|| format!("{url} names no host"))?
            .trim_matches(['[', ']']);
        let found = tokio::net::lookup_host((host, url.port_u16().unwrap_or(80)))
            .await
            .with_context(|| format!("cannot find {url}"))?
            .next()
            .with_context(|| format!("{url} has no address"))?;
        anyhow::ensure!(
            found.ip().is_loopback(),
            "{url} is another machine: this is a load generator, and loads loopback alone"
        );
        Ok(Self(found))
    }
}

/// An answer, read to its end.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Where it says that the result will be.
    pub location: Option<String>,
    /// When it says to come again.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(#[from] hyper::Error),
    /// The request cannot be written.
    #[error("the request is none: {0}")]
    Request(#[from] hyper::http::Error),
    /// Nothing came in time.
    #[error("no answer in {ANSWER_WAIT:?}")]
    Late,
}

impl Unanswered {
    /// Whether the host cannot have had the request.
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Request(_))
    }
}

/// One connection.
pub struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that has not connected yet.
    pub const fn new(Address(address): Address) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// Connects, unless it is connected.
    pub async fn connect(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Unanswered> {
        let usable = match self.connection.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let connection = match usable {
            Some(open) => open,
            None => {
                let stream = TcpStream::connect(self.address)
                    .await
                    .map_err(Unanswered::Connect)?;
                stream.set_nodelay(true).map_err(Unanswered::Connect)?;
                let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
                // It ends with the connection; how it ended is told to whoever waits for an answer.
                tokio::spawn(driver);
                sender
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Sends a request and reads its answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Unanswered> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let connection = self.connect().await?;
        let answered = async {
            let response = connection.send_request(request).await?;
            let (head, body) = response.into_parts();
            let text = |name| head.headers.get(name).and_then(|it| it.to_str().ok());
            let seconds = text(header::RETRY_AFTER).and_then(|text| text.parse().ok());
            Ok(Answer {
                status: head.status,
                location: text(header::LOCATION).map(str::to_owned),
                retry_after: seconds.map(Duration::from_secs),
                body: body.collect().await?.to_bytes(),
            })
        };
        let answered = tokio::time::timeout(ANSWER_WAIT, answered).await;
        let answered = answered.unwrap_or(Err(Unanswered::Late));
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    /// Reads a path; anything but a 200 is an error.
    pub async fn read(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        anyhow::ensure!(
            answer.status == StatusCode::OK,
            "{path} answered {}",
            answer.status
        );
        Ok(answer.body)
    }

    /// Reads a path that answers with JSON.
    pub async fn read_json(&mut self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.read(path).await?)?)
    }

    /// Creates something, and returns its id.
    pub async fn create(&mut self, path: &str, body: &Value) -> anyhow::Result<i64> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        let answer = self.send(Method::POST, path, body).await?;
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(
            answer.status == StatusCode::CREATED,
            "{path} answered {}: {text}",
            answer.status
        );
        let created: Value = serde_json::from_slice(&answer.body)?;
        created
            .get("id")
            .and_then(Value::as_i64)
            .with_context(|| format!("{path} answered without an id: {text}"))
    }
}
