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

/// One write lane with a short queue, so that it can be filled; and as long as a server is frozen
/// no lane gives its connection up.
const ONE_LANE: &str = "
[lanes]
reads = 1
writes = 1
queue_keys_max = 128
statement_timeout_ms = 120000
";

#[tokio::test]
async fn python_speaks_to_embedded_shards() -> Result<()> {
    python(&mut Scene::embedded().await?, &PYTHON).await
}

#[tokio::test]
async fn python_speaks_to_mysql() -> Result<()> {
    python(&mut Scene::on(Engine::MySql, "").await?, &PYTHON).await
}

#[tokio::test]
async fn python_is_told_the_truth_about_broken_mariadb_servers() -> Result<()> {
    let mut scene = Scene::on(Engine::MariaDb, ONE_LANE).await?;
    python(&mut scene, &PYTHON_FAULTS).await
}
