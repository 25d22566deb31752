//! Every limit, and what is no request at all: over the wire, and never in a database.

use freehold_tests::{Engine, Result};

use crate::scene::Scene;
use crate::script::{node, python};

const AT_LIMITS: [&str; 1] = ["test_limits_kept"];

const BEYOND: [&str; 3] = ["test_limits_broken", "test_tokens", "test_unreadable"];

/// The largest limit that a config may set.
const LARGEST_VALUE: usize = 15 << 20;

const ABOUT_VALUES: [&str; 2] = [
    "test_limits_kept.Values",
    "test_limits_broken.Broken.test_a_value_of_one_byte_too_many",
];

async fn is_refused(mut scene: Scene) -> Result<()> {
    python(&mut scene, &AT_LIMITS).await?;
    python(&mut scene, &BEYOND).await?;
    node(&mut scene, &["wire.test.js"]).await?;
    scene.allow_values_of(LARGEST_VALUE).await?;
    python(&mut scene, &ABOUT_VALUES).await
}

#[tokio::test]
async fn bad_input_reaches_no_embedded_shard() -> Result<()> {
    is_refused(Scene::embedded().await?).await
}

#[tokio::test]
async fn bad_input_reaches_no_mariadb() -> Result<()> {
    is_refused(Scene::on(Engine::MariaDb).await?).await
}
