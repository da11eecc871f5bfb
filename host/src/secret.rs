//! Secrets that come from a flag, the environment or a file, and follow their file while the host runs.
//!
//! `app` opens them; whoever needs one asks for its present value each time.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::{ArcSwap, Guard};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::{config::Hidden, ticket::TicketKeys};

/// How often a secret's file is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// A secret's present value, shared by all who use it.
pub struct Secret<T> {
    value: ArcSwap<T>,
    /// The file, and what it held when it was read.
    file: Option<(PathBuf, String)>,
    parse: fn(&str) -> Option<T>,
}

impl<T: Send + Sync + 'static> Secret<T> {
    fn from_text(text: &str, parse: fn(&str) -> Option<T>) -> Option<Self> {
        Some(Self {
            value: ArcSwap::from_pointee(parse(text)?),
            file: None,
            parse,
        })
    }

    fn from_file(path: &Path, parse: fn(&str) -> Option<T>) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value =
            parse(&text).with_context(|| format!("{} holds no usable secret", path.display()))?;
        Ok(Self {
            value: ArcSwap::from_pointee(value),
            file: Some((path.to_owned(), text)),
            parse,
        })
    }

    /// The present value, for a moment.
    pub fn get(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// Takes over a changed file within a second, until `stop`; a file that cannot be used leaves the value as it is.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let Some((path, text)) = &self.file else {
            return;
        };
        let mut last = text.clone();
        while stop
            .run_until_cancelled(tokio::time::sleep(FOLLOW_EVERY))
            .await
            .is_some()
        {
            let Ok(text) = tokio::fs::read_to_string(path).await else {
                continue;
            };
            if last == text {
                continue;
            }
            match (self.parse)(&text) {
                Some(value) => {
                    self.value.store(Arc::new(value));
                    tracing::info!(file = %path.display(), "took over a changed secret");
                }
                None => {
                    tracing::error!(file = %path.display(), "the changed file holds no usable secret; the last one stays");
                }
            }
            last = text;
        }
    }
}

/// A token that a caller must show.
pub struct Token(String);

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let token = text.trim();
        // Others cannot be shown in a header.
        let can_be_shown = !token.is_empty() && token.bytes().all(|it| matches!(it, b' '..=b'~'));
        can_be_shown.then(|| Self(token.to_owned()))
    }

    /// Whether `shown` is the token; takes as long for a near miss as for a far one.
    pub fn matches(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

/// Opens the token that is set by value or by file, if any is.
pub fn token(
    name: &str,
    value: Option<&Hidden>,
    file: Option<&Path>,
) -> anyhow::Result<Option<Arc<Secret<Token>>>> {
    let secret = match (value, file) {
        (Some(value), _) => Secret::from_text(&value.0, Token::parse).with_context(|| {
            format!("{name} is set, and no token: one line of ASCII characters")
        })?,
        (None, Some(file)) => Secret::from_file(file, Token::parse)
            .with_context(|| format!("{name}_FILE needs a token, one line of ASCII characters"))?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Arc::new(secret)))
}

/// Opens the ticket keys: set by value, by file, or kept in the data folder, where they are made once.
pub fn ticket_keys(
    value: Option<&Hidden>,
    file: Option<&Path>,
    data_dir: &Path,
) -> anyhow::Result<Arc<Secret<TicketKeys>>> {
    let secret = match (value, file) {
        (Some(value), _) => Secret::from_text(&value.0, TicketKeys::parse)
            .context("TIMESALE_TICKET_KEY needs at least 16 bytes")?,
        (None, Some(file)) => Secret::from_file(file, TicketKeys::parse).context(
            "TIMESALE_TICKET_KEY_FILE needs a key of at least 16 bytes in its first line",
        )?,
        (None, None) => {
            let kept = data_dir.join("ticket.key");
            make_key(&kept).with_context(|| format!("cannot write {}", kept.display()))?;
            Secret::from_file(&kept, TicketKeys::parse)?
        }
    };
    Ok(Arc::new(secret))
}

/// A new ticket key.
pub fn new_key() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// Makes a key file that only its owner may read, unless it is there; wholly or not at all.
fn make_key(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let aside = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?;
    writeln!(file, "{}", new_key())?;
    file.sync_all()?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc, time::Duration};

    use tempfile::TempDir;
    use tokio_util::sync::CancellationToken;

    use super::token;

    #[tokio::test]
    async fn a_file_that_changed_before_it_was_followed_is_taken_over() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "first\n").unwrap();
        let secret = token("TOKEN", None, Some(&file)).unwrap().unwrap();
        assert!(secret.get().matches("first"));
        fs::write(&file, "second\n").unwrap();
        let stop = CancellationToken::new();
        let following = tokio::spawn(Arc::clone(&secret).follow(stop.clone()));
        let taken_over = async {
            while !secret.get().matches("second") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let taken_over = tokio::time::timeout(Duration::from_secs(30), taken_over);
        assert!(taken_over.await.is_ok());
        stop.cancel();
        following.await.unwrap();
    }

    #[test]
    fn what_no_header_can_carry_is_no_token() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        for text in ["", " \n", "two\nlines", "토큰"] {
            fs::write(&file, text).unwrap();
            assert!(token("TOKEN", None, Some(&file)).is_err(), "{text:?}");
        }
    }
}
