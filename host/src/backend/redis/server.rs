//! The connection to the server: how it is made, kept, and asked, and what its faults mean.
//!
//! The other files of the room call it.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, SendError};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, FromRedisValue, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisError,
    RedisResult, ScriptInvocation,
};

use super::RedisOptions;
use crate::backend::{BackendError, System};

/// The kind of value that the counters want.
const COUNTER: &str = "a decimal that fits into 64 bits";

/// The server as the files of this room use it.
#[derive(Clone)]
pub struct Server {
    connection: ConnectionManager,
    prefix: String,
}

impl Server {
    /// Connects, and passes on whatever comes for `host`.
    pub async fn connect(
        options: &RedisOptions,
        host: &str,
        wake_ups: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
    ) -> Result<Self, BackendError> {
        let wrong = || failed("connect");
        let config = ConnectionManagerConfig::new()
            // A command that finds the connection broken fails at once; the next one tries again.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(options.answer_wait))
            .set_response_timeout(Some(options.answer_wait))
            .set_push_sender(wake_ups)
            .set_automatic_resubscription();
        let client = client(options).map_err(wrong())?;
        let connection = ConnectionManager::new_with_config(client, config);
        let mut server = Self {
            connection: connection.await.map_err(wrong())?,
            prefix: options.prefix.clone(),
        };
        let channel = server.own("wake", host);
        let subscribed = server.connection.subscribe(channel).await;
        subscribed.map_err(wrong())?;
        Ok(server)
    }

    /// What a strategy's key is called; none of the host's own begins so.
    pub fn value(&self, key: &str) -> String {
        format!("{}value:{key}", self.prefix)
    }

    /// What a thing of the host's own is called.
    pub fn own(&self, kind: &str, key: &str) -> String {
        format!("{}host:{kind}:{key}", self.prefix)
    }

    /// Sends a command and reads the answer.
    pub async fn query<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T, BackendError> {
        let mut connection = self.connection.clone();
        let mut answer = command.query_async(&mut connection).await;
        if was_not_sent(&answer) {
            answer = command.query_async(&mut connection).await;
        }
        answer.map_err(failed(operation))
    }

    /// Runs a script and reads the answer.
    pub async fn invoke<T: FromRedisValue>(
        &self,
        operation: &'static str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, BackendError> {
        let mut connection = self.connection.clone();
        let mut answer = call.invoke_async(&mut connection).await;
        if was_not_sent(&answer) {
            answer = call.invoke_async(&mut connection).await;
        }
        answer.map_err(failed(operation))
    }
}

/// Whether there was no connection to send the command by; that may have been found out long ago, so it is worth another try.
fn was_not_sent<T>(answer: &RedisResult<T>) -> bool {
    answer
        .as_ref()
        .is_err_and(RedisError::is_connection_refusal)
}

fn client(options: &RedisOptions) -> RedisResult<Client> {
    let info = options.url.as_str().into_connection_info()?;
    // Of the older protocol a connection is either for commands or for wake-ups, and says nothing when it breaks.
    let redis = info.redis_settings().clone();
    let redis = redis.set_protocol(ProtocolVersion::RESP3);
    let tcp = TcpSettings::default().set_nodelay(true);
    // A server that is gone without a word is found out by then, and not after the kernel's quarter of an hour.
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(options.answer_wait.saturating_mul(2));
    Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

/// A time as the server takes it, at least its smallest.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Says what a fault means to a caller of `operation`.
fn failed(operation: &'static str) -> impl FnOnce(RedisError) -> BackendError {
    move |error| match error.code() {
        Some("OOM") => BackendError::Full { what: "the memory" },
        Some("WRONGVALUE" | "WRONGTYPE") => BackendError::WrongValue { wanted: COUNTER },
        _ => BackendError::unavailable(System::Redis, operation, error),
    }
}
