//! Waiting for what a user would see, instead of for a time.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::error::Error;

/// Far above what anything takes that a test waits for.
const WITHIN: Duration = Duration::from_secs(60);

/// Whatever went wrong in a test, in words.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// Asks again and again until the answer is yes; for 60 s at most.
///
/// # Errors
/// The question's own, or [`Error::Late`].
pub async fn until(
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, Wrong>,
) -> Result<(), Wrong> {
    let poll = async {
        while !holds().await? {
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    let late = |_| Error::Late {
        what: what.to_owned(),
        waited_s: WITHIN.as_secs(),
    };
    timeout(WITHIN, poll).await.map_err(late)?
}
