//! A wire to a backend that a test can cut, and on which it can hold what a client says.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::within;

/// The most that is passed on at once.
const CHUNK: usize = 64 << 10;

/// A proxy on loopback; it lasts as long as the test.
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

struct Wire {
    /// The backend, once it is known.
    leads_to: OnceLock<String>,
    /// The connections that there are; none can be made while there is no set of them.
    connections: Mutex<Option<JoinSet<io::Result<()>>>>,
    barrier: watch::Sender<Barrier>,
}

/// What is held back of what clients say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Barrier {
    Open,
    /// The next chunk that contains this.
    At(String),
    /// One that did, and what comes after it.
    Reached,
}

impl Proxy {
    /// A proxy that leads nowhere yet: for a backend that has to know the address of its proxy when it starts.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Arc::new(Wire {
            leads_to: OnceLock::new(),
            connections: Mutex::new(Some(JoinSet::new())),
            barrier: watch::Sender::new(Barrier::Open),
        });
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, Arc::clone(&wire)));
        Self { address, wire }
    }

    /// A proxy in front of the backend at this address.
    pub async fn before(address: &str) -> Self {
        let proxy = Self::new().await;
        proxy.lead_to(address);
        proxy
    }

    /// Names the backend of a proxy that had none.
    pub fn lead_to(&self, address: &str) {
        self.wire.leads_to.set(address.to_owned()).unwrap();
    }

    /// Where the backend seems to be.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port of that.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections, and from then on every new one as soon as it is made.
    pub async fn cut(&self) {
        let connections = self.wire.connections.lock().unwrap().take();
        if let Some(mut connections) = connections {
            connections.shutdown().await;
        }
    }

    /// Lets connections be made again.
    pub fn restore(&self) {
        *self.wire.connections.lock().unwrap() = Some(JoinSet::new());
    }

    /// Holds the next chunk from a client that contains this text, and all that the client sends after it, until `release`.
    ///
    /// Chunks are looked at one by one: the text has to be of a message that clients send at once.
    pub fn hold_at(&self, text: &str) {
        self.wire.barrier.send_replace(Barrier::At(text.to_owned()));
    }

    /// Waits until a chunk is held.
    pub async fn held(&self) {
        let mut barrier = self.wire.barrier.subscribe();
        let reached = barrier.wait_for(|barrier| *barrier == Barrier::Reached);
        within("a chunk to hold", reached).await.unwrap();
    }

    /// Passes on what is held, and holds nothing more.
    pub fn release(&self) {
        self.wire.barrier.send_replace(Barrier::Open);
    }
}

/// A URL with this `host:port` in the place of its own.
pub fn lead(url: &str, through: &str) -> String {
    url.replace(address_of(url), through)
}

/// The `host:port` of a URL, or of what is nothing else.
pub fn address_of(url: &str) -> &str {
    let (_, after) = url.rsplit_once('@').unwrap_or(("", url));
    after.split(['/', '?']).next().unwrap()
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        let Some(server) = wire.leads_to.get().cloned() else {
            continue;
        };
        let barrier = wire.barrier.clone();
        if let Some(connections) = &mut *wire.connections.lock().unwrap() {
            connections.spawn(connect(client, server, barrier));
        }
    }
}

/// Passes on what both sides say until one of them hangs up.
async fn connect(
    mut client: TcpStream,
    server: String,
    barrier: watch::Sender<Barrier>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.split();
    let (mut from_server, to_server) = server.split();
    tokio::select! {
        done = pass_on(from_client, to_server, &barrier) => done,
        done = copy(&mut from_server, &mut to_client) => done.map(drop),
    }
}

async fn pass_on(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    barrier: &watch::Sender<Barrier>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let said = client.read(&mut chunk).await?;
        if said == 0 {
            return Ok(());
        }
        let reached = barrier.send_if_modified(|barrier| {
            let reached = barrier.is_at(&chunk[..said]);
            if reached {
                *barrier = Barrier::Reached;
            }
            reached
        });
        if reached {
            let mut barrier = barrier.subscribe();
            let open = barrier.wait_for(|barrier| *barrier == Barrier::Open);
            open.await.map_err(io::Error::other)?;
        }
        server.write_all(&chunk[..said]).await?;
    }
}

impl Barrier {
    fn is_at(&self, chunk: &[u8]) -> bool {
        let Self::At(text) = self else { return false };
        let mut places = chunk.windows(text.len());
        places.any(|place| place == text.as_bytes())
    }
}
