//! Clusters to break, and how to wait for what they do.

use std::time::Duration;

use freehold_client::{Client, ClientOptions, RetryOptions};
use freehold_core::{Key, slot::even_share};
use freehold_tests::{Engine, Router, Server, Shard};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::Value;

pub(crate) use freehold_tests::until;

/// What tests return: whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// For everything that a test waits for; far above what any of it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// Shards are named in the order of the config.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Masters without replicas, and a router that serves them.
pub(crate) struct Cluster {
    // First: it ends before its servers do.
    pub(crate) router: Router,
    pub(crate) masters: Vec<Server>,
}

impl Cluster {
    /// Two masters of one engine. `more` is TOML that comes before the shards.
    pub(crate) async fn of_two(engine: Engine, more: &str) -> Result<Self> {
        let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
        Self::on(vec![a, b], more).await
    }

    /// Initialises these masters and serves them.
    pub(crate) async fn on(masters: Vec<Server>, more: &str) -> Result<Self> {
        let shards = shards(&masters);
        let router = Router::init_and_serve(&shards, more).await?;
        Ok(Self { router, masters })
    }

    /// Calls to the router.
    pub(crate) async fn client(&self) -> Result<Client> {
        client(&self.router).await
    }
}

/// One shard for each of these masters.
pub(crate) fn shards(masters: &[Server]) -> Vec<Shard> {
    let named = NAMES.iter().zip(masters);
    named
        .map(|(name, master)| Shard::new(name, master, &[]))
        .collect()
}

/// Calls to a router, that end as the router ends them: nothing is tried again.
pub(crate) async fn client(router: &Router) -> Result<Client> {
    let options = ClientOptions {
        retry: RetryOptions::never(),
        ..ClientOptions::default()
    };
    Ok(Client::connect(&router.address().to_string(), &options).await?)
}

/// Endless keys that belong to one of so many shards, as `init` deals slots out.
pub(crate) fn keys_of(shard: usize, shards: usize, prefix: &str) -> impl Iterator<Item = String> {
    let share = even_share(shard, shards);
    (0_u64..)
        .map(move |number| format!("{prefix}:{number}"))
        .filter(move |key| share.contains(&slot_of(key)))
}

/// The slot of a key.
pub(crate) fn slot_of(key: &str) -> u16 {
    Key::new(key.to_owned()).expect("a key").slot().0
}

/// How often a test hurts what it hurts: CI makes a share of what one command makes, which
/// `tests/README.md` names.
pub(crate) fn rounds(in_ci: usize) -> usize {
    asked("FREEHOLD_TEST_ROUNDS").unwrap_or(in_ci)
}

/// Whether more is asked for than CI makes: then this machine does nothing else.
pub(crate) fn is_full() -> bool {
    asked("FREEHOLD_TEST_ROUNDS").is_some()
}

/// All of the cases, in an order that the seed draws, as often as there are rounds; in CI the first
/// few of them.
pub(crate) fn cases<T: Copy>(all: &[T], in_ci: usize, seed: u64) -> Vec<T> {
    let mut cases = all.repeat(rounds(1));
    cases.shuffle(&mut StdRng::seed_from_u64(seed));
    if !is_full() {
        cases.truncate(in_ci);
    }
    cases
}

/// A number that a test is asked for.
pub(crate) fn asked(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A random number that is printed, so that a failure can be tried again with
/// `FREEHOLD_TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("FREEHOLD_TEST_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let mut drawn = [0; 8];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut drawn))
            .expect("/dev/urandom");
        u64::from_ne_bytes(drawn)
    });
    println!("FREEHOLD_TEST_SEED={seed}");
    seed
}

/// How many slots each shard owns, as the router knows it, in the order of the config.
pub(crate) async fn owned(router: &Router) -> Result<Vec<(String, u64)>> {
    let shown = router.admin_cli(&["shards", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown.success()?)?;
    let shards = shown["shards"].as_array().expect("shards").iter();
    let owned = shards.map(|shard| {
        let name = shard["name"].as_str().unwrap_or_default();
        (name.to_owned(), shard["slots_owned"].as_u64().unwrap_or(0))
    });
    Ok(owned.collect())
}

/// Waits until the router knows that each shard owns so many.
pub(crate) async fn until_owned(router: &Router, wanted: &[(&str, u64)]) -> Result<()> {
    let wanted = wanted.iter().map(|(name, n)| ((*name).to_owned(), *n));
    let wanted: Vec<(String, u64)> = wanted.collect();
    until("the router to know who owns what", async || {
        Ok(owned(router).await? == wanted)
    })
    .await
}
