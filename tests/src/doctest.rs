//! Examples in the documentation that run.

use std::error::Error;

use crate::Router;

/// Runs an example against a router of its own, whose address it is given.
///
/// # Panics
/// If there is no router to run it against, or it ends with an error.
pub fn doctest(example: impl AsyncFnOnce(&str) -> Result<(), Box<dyn Error>>) {
    let run = async {
        let router = Router::embedded().await?;
        example(&router.address().to_string()).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(Box::from)
        .and_then(|runtime| runtime.block_on(run))
        .unwrap_or_else(|error| panic!("{error}"));
}
