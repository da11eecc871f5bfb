//! What the tests of the shared memory share; time is tokio's and stands still until a test moves it.

mod locks;
mod values;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::{Memory, MemoryOptions};

/// What a test ends in.
type Outcome = Result<(), Box<dyn Error>>;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn memory() -> Arc<Memory> {
    bounded(1_000, 1_000_000)
}

fn bounded(entries_max: usize, bytes_max: usize) -> Arc<Memory> {
    let options = MemoryOptions {
        entries_max,
        bytes_max,
        ttl_max: HOUR,
    };
    Arc::new(Memory::new(100, options))
}
