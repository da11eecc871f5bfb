//! Servers that lose their data, fall silent or die.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{MINUTE, Outcome, SECOND, acquire, options};
use crate::backend::redis::{Redis, RedisOptions};
use crate::backend::{BackendError, System};

/// A server that a test may harm; it dies with the test.
struct Server {
    port: u16,
    process: Child,
}

impl Server {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let process = run(port)?;
        let server = Self { port, process };
        server.wait().await?;
        Ok(server)
    }

    async fn kill(&mut self) -> Outcome {
        Ok(self.process.kill().await?)
    }

    async fn restart(&mut self) -> Outcome {
        self.process = run(self.port)?;
        self.wait().await
    }

    async fn wait(&self) -> Outcome {
        let since = Instant::now();
        while let Err(error) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await {
            if since.elapsed() > 10 * SECOND {
                return Err(error.into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn say(&self, words: &[&str]) -> Outcome {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let mut connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        let mut command = cmd(words.first().ok_or("no words")?);
        for word in words.iter().skip(1) {
            command.arg(word);
        }
        Ok(command.query_async(&mut connection).await?)
    }

    fn options(&self) -> Result<RedisOptions, Box<dyn std::error::Error>> {
        let url = format!("redis://127.0.0.1:{}", self.port);
        Ok(RedisOptions { url, ..options()? })
    }
}

fn run(port: u16) -> std::io::Result<Child> {
    let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    Command::new(program)
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

fn is_down<T>(answer: &Result<T, BackendError>) -> bool {
    let system = System::Redis;
    matches!(answer, Err(BackendError::Unavailable { system: said, .. }) if *said == system)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_on_above_every_row_after_all_was_lost() -> Outcome {
    let server = Server::start().await?;
    let redis = Redis::open(&server.options()?).await?;
    let before = acquire(&redis, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    server.say(&["FLUSHALL"]).await?;
    // The holder is not known any more: the next is let in, with a token that beats it though no row has seen it.
    let after = acquire(&redis, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    assert!(after.token > before.token, "{before:?} {after:?}");
    assert!(!redis.release(&before).await?);

    server.say(&["FLUSHALL"]).await?;
    let highest = after.token + 1_000_000_000_000;
    let seed = async { Ok(highest) };
    let again = redis.acquire("lock", SECOND, MINUTE, seed).await?;
    assert_eq!(again.map(|grant| grant.token), Some(highest + 1));
    // It is asked for once.
    let unasked = async { Err(BackendError::LockLost) };
    let other = redis.acquire("other", SECOND, MINUTE, unasked).await?;
    assert_eq!(other.map(|grant| grant.token), Some(highest + 2));

    server.say(&["FLUSHALL"]).await?;
    let unknown = async { Err(BackendError::LockLost) };
    let refused = redis.acquire("lock", SECOND, MINUTE, unknown).await;
    assert!(matches!(refused, Err(BackendError::LockLost)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_down_at_once_and_comes_back_by_itself() -> Outcome {
    let mut server = Server::start().await?;
    let redis = Arc::new(Redis::open(&server.options()?).await?);
    let held = acquire(&redis, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    redis.set("a", b"1".to_vec(), MINUTE).await?;
    let waiter = tokio::spawn({
        let redis = Arc::clone(&redis);
        async move { acquire(&redis, "lock", MINUTE, MINUTE).await }
    });
    sleep(Duration::from_millis(100)).await;
    server.kill().await?;
    assert!(is_down(&waiter.await?));
    let since = Instant::now();
    for _ in 0..20 {
        assert!(is_down(&redis.get("a").await));
    }
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    sleep(SECOND).await;
    server.restart().await?;
    // Not one answer is lost to what was found out before.
    assert_eq!(redis.get("a").await?, None);
    let next = acquire(&redis, "lock", SECOND, MINUTE)
        .await?
        .ok_or("taken")?;
    assert!(next.token > held.token);

    // The wake-ups are back too.
    let waiter = tokio::spawn({
        let redis = Arc::clone(&redis);
        async move { acquire(&redis, "lock", MINUTE, MINUTE).await }
    });
    sleep(Duration::from_millis(100)).await;
    let released_at = Instant::now();
    assert!(redis.release(&next).await?);
    assert!(waiter.await??.is_some());
    assert!(
        released_at.elapsed() < Duration::from_millis(200),
        "{:?}",
        released_at.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_holds_nobody_for_ever() -> Outcome {
    let server = Server::start().await?;
    let mut options = server.options()?;
    options.answer_wait = Duration::from_millis(300);
    let redis = Redis::open(&options).await?;
    server.say(&["CLIENT", "PAUSE", "1500"]).await?;
    let since = Instant::now();
    assert!(is_down(&redis.get("a").await));
    assert!(is_down(&acquire(&redis, "lock", MINUTE, SECOND).await));
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    sleep(2 * SECOND).await;
    redis.ping().await?;
    // What was granted while nobody listened was given up.
    let grant = acquire(&redis, "lock", Duration::from_millis(100), SECOND).await?;
    assert!(grant.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_so_and_a_wrong_password_stays_untold() -> Outcome {
    let server = Server::start().await?;
    let redis = Redis::open(&server.options()?).await?;
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let set = redis.set("a", b"1".to_vec(), MINUTE).await;
    assert!(matches!(set, Err(BackendError::Full { .. })), "{set:?}");
    let added = redis.add("a", 1).await;
    assert!(matches!(added, Err(BackendError::Full { .. })), "{added:?}");

    let mut options = server.options()?;
    options.url = format!("redis://nobody:hush-hush@127.0.0.1:{}", server.port);
    let opened = Redis::open(&options).await;
    assert!(is_down(&opened));
    let said = format!("{opened:?} {redis:?}");
    assert!(!said.contains("hush-hush"), "{said}");
    Ok(())
}
