//! `log`: the strategy's voice in the host's log, bounded in lines and bytes.

use super::{
    bindings::timesale::strategy::log::{Host, Level},
    state::CallState,
};

/// Lines of one call that are written.
const LINES_MAX: u32 = 32;
/// Bytes of one line that are written.
const LINE_MAX_BYTES: usize = 4096;

/// How much a call has said.
#[derive(Default)]
pub struct LogBudget {
    lines: u32,
}

impl Host for CallState {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.log.lines += 1;
        if self.log.lines > LINES_MAX {
            // A guest that talks for ever is still stopped by its deadline.
            return match self.interrupted() {
                Some(end) => Err(end.into()),
                None => Ok(()),
            };
        }
        let line = message
            .get(..message.floor_char_boundary(LINE_MAX_BYTES))
            .unwrap_or_default();
        let line = line.escape_debug().to_string();
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "timesale::strategy::guest",
                    version = %self.task.version,
                    revision = %self.task.revision,
                    request.id = self.task.requests.first().map(|request| request.id.0.as_str()),
                    "{line}"
                )
            };
        }
        match level {
            Level::Debug => say!(debug),
            Level::Info => say!(info),
            Level::Warn => say!(warn),
            Level::Error => say!(error),
        }
        Ok(())
    }
}
