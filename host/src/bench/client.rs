//! One connection to a listener: kept alive, and opened again where it broke.
//!
//! As much of HTTP as a host and its load generator need of each other, with no task and no pool beside the socket: what a load generator spends on itself, it takes from the host beside it.

use std::{
    cmp::Ordering,
    io::{self, Write as _},
    net::SocketAddr,
    str,
    time::Duration,
};

use ::http::{Method, StatusCode, Uri, header};
use anyhow::Context as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long an answer may take: longer than any host with sound bounds takes for one.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Fields that the head of an answer may have: several times what a host's has.
const FIELDS_MAX: usize = 32;
/// Bytes that there is room for before each read: a usual answer as a whole.
const READ_BYTES: usize = 4 << 10;

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
    pub body: Vec<u8>,
    /// Whether the connection ends with it.
    closes: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broke(#[from] io::Error),
    /// What came is no answer.
    #[error("what came is no answer: {0}")]
    NotHttp(#[from] httparse::Error),
    /// What came is an answer of a kind that no host gives.
    #[error("the answer has {0}")]
    Foreign(&'static str),
    /// Nothing came in time.
    #[error("no answer in {ANSWER_WAIT:?}")]
    Late,
}

impl Unanswered {
    /// Whether the host cannot have had the request.
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// One connection.
pub struct Client {
    address: SocketAddr,
    connection: Option<Connection>,
}

/// A connection that is open, as far as is known.
struct Connection {
    stream: TcpStream,
    /// The request, as it is sent.
    sent: Vec<u8>,
    /// The answer, as far as it is read.
    read: Vec<u8>,
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
    pub async fn connect(&mut self) -> Result<(), Unanswered> {
        self.connected().await.map(drop)
    }

    async fn connected(&mut self) -> Result<&mut Connection, Unanswered> {
        let connection = match self.connection.take().filter(Connection::is_usable) {
            Some(open) => open,
            None => Connection::open(self.address).await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Sends a request and reads its answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, Unanswered> {
        let connection = self.connected().await?;
        let asked = connection.ask(&method, path, body);
        let answered = tokio::time::timeout(ANSWER_WAIT, asked).await;
        let answered = answered.unwrap_or(Err(Unanswered::Late));
        if answered.as_ref().map_or(true, |answer| answer.closes) {
            self.connection = None;
        }
        answered
    }

    /// Reads a path; anything but a 200 is an error.
    pub async fn read(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.send(Method::GET, path, &[]).await?;
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
        let body = serde_json::to_vec(body)?;
        let answer = self.send(Method::POST, path, &body).await?;
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

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, Unanswered> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(Unanswered::Connect)?;
        stream.set_nodelay(true).map_err(Unanswered::Connect)?;
        Ok(Self {
            stream,
            sent: Vec::new(),
            read: Vec::new(),
        })
    }

    /// Whether it can take a request, as far as is known: nothing comes of it that nobody asked for, not even its end.
    fn is_usable(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn ask(
        &mut self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<Answer, Unanswered> {
        self.sent.clear();
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )?;
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent).await?;
        self.read.clear();
        loop {
            self.read.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if let Some(answer) = answer(&self.read)? {
                return Ok(answer);
            }
        }
    }
}

/// The answer that these bytes are; none where there is more to come.
fn answer(read: &[u8]) -> Result<Option<Answer>, Unanswered> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(read)? else {
        return Ok(None);
    };
    let text = |name: header::HeaderName| {
        let mut fields = head.headers.iter();
        let field = fields.find(|field| field.name.eq_ignore_ascii_case(name.as_str()))?;
        str::from_utf8(field.value).ok()
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let length: usize = length.ok_or(Unanswered::Foreign("no content-length"))?;
    let body = read.get(head_bytes..).unwrap_or_default();
    match body.len().cmp(&length) {
        Ordering::Less => return Ok(None),
        Ordering::Equal => {}
        Ordering::Greater => return Err(Unanswered::Foreign("more than its content-length")),
    }
    let seconds = text(header::RETRY_AFTER).and_then(|text| text.parse().ok());
    Ok(Some(Answer {
        status: status.ok_or(Unanswered::Foreign("no status"))?,
        location: text(header::LOCATION).map(str::to_owned),
        retry_after: seconds.map(Duration::from_secs),
        body: body.to_vec(),
        closes: text(header::CONNECTION).is_some_and(|text| text.eq_ignore_ascii_case("close")),
    }))
}
