//! What the tests of the shared memory on a server share: a prefix of their own, a server of their own where they harm it.
//!
//! They need the server of `REDIS_URL`, those that harm one the program `REDIS_SERVER` (or `redis-server`) too, and come with the feature `services`.

mod faults;
mod locks;
mod values;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::{Redis, RedisOptions};
use crate::backend::BackendError;
use crate::backend::memory::Grant;

/// What a test ends in.
type Outcome = Result<(), Box<dyn Error>>;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Options with a prefix that nobody else has; what is kept under it goes by itself.
fn options() -> Result<RedisOptions, Box<dyn Error>> {
    Ok(RedisOptions {
        url: std::env::var("REDIS_URL")?,
        prefix: format!("test-{:032x}:", rand::random::<u128>()),
        ttl_max: MINUTE,
        answer_wait: 5 * SECOND,
    })
}

/// Two hosts with one memory.
async fn two_hosts() -> Result<[Arc<Redis>; 2], Box<dyn Error>> {
    let options = options()?;
    Ok([
        Arc::new(Redis::open(&options).await?),
        Arc::new(Redis::open(&options).await?),
    ])
}

/// Asks for a lock where no row has seen a token.
async fn acquire(
    redis: &Redis,
    key: &str,
    wait: Duration,
    lease: Duration,
) -> Result<Option<Grant>, BackendError> {
    redis.acquire(key, wait, lease, async { Ok(0) }).await
}
