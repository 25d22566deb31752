//! Every method, expiry, deadlines and errors, in each language.

use freehold_tests::{Engine, Result};

use crate::scene::Scene;
use crate::script::{node, python};

/// What needs nothing but a router that is well.
const PYTHON: [&str; 8] = [
    "test_methods",
    "test_expiry",
    "test_batches",
    "test_scan",
    "test_pipeline",
    "test_health",
    "test_reflection",
    "test_admin",
];

/// What breaks a server, and mends it.
const PYTHON_FAULTS: [&str; 2] = ["test_frozen", "test_down"];

const NODE: [&str; 2] = ["methods.test.js", "streams.test.js"];

const NODE_FAULTS: [&str; 1] = ["faults.test.js"];

#[tokio::test]
async fn python_speaks_to_embedded_shards() -> Result<()> {
    python(&mut Scene::embedded().await?, &PYTHON).await
}

#[tokio::test]
async fn python_speaks_to_mariadb_and_is_told_the_truth_when_it_breaks() -> Result<()> {
    let mut scene = Scene::on(Engine::MariaDb).await?;
    python(&mut scene, &PYTHON).await?;
    scene.allow_few_calls().await?;
    python(&mut scene, &["test_refused"]).await?;
    scene.shorten_lanes().await?;
    python(&mut scene, &PYTHON_FAULTS).await
}

#[tokio::test]
async fn node_speaks_to_embedded_shards() -> Result<()> {
    node(&mut Scene::embedded().await?, &NODE).await
}

#[tokio::test]
async fn node_speaks_to_mysql_and_is_told_the_truth_when_it_breaks() -> Result<()> {
    let mut scene = Scene::on(Engine::MySql).await?;
    node(&mut scene, &NODE).await?;
    node(&mut scene, &["refused.test.js"]).await?;
    scene.shorten_lanes().await?;
    node(&mut scene, &NODE_FAULTS).await
}
