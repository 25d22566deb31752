//! What scripts talk to: a router, its databases, and a key tag for each shard.

use std::collections::{BTreeMap, btree_map::Entry};
use std::time::Duration;

use freehold_core::{Key, slot::even_share};
use freehold_tests::{Engine, Error, Result, Router, Server, ServerOptions, Shard, Sql};

/// A sweeper's statements would be counted with those that a request caused.
const NO_SWEEPING: &str = "[sweeper]\nenabled = false\n";

/// A router in front of databases that can be broken.
pub(crate) struct Scene {
    // First: it ends before its servers do.
    pub(crate) router: Router,
    /// By the shard's name; embedded shards have none.
    pub(crate) masters: BTreeMap<String, Server>,
    /// All shards, in the order of the config.
    pub(crate) shards: Vec<String>,
    /// What the router's config says.
    pub(crate) value_bytes_max: usize,
    /// Connections to masters that scripts run statements on, by the shard's name.
    sessions: BTreeMap<String, Sql>,
}

impl Scene {
    /// The four embedded shards of a first minute.
    pub(crate) async fn embedded() -> Result<Self> {
        let mut router = Router::configure(&[], "")?;
        router.set_environment("FREEHOLD__SWEEPER__ENABLED", "false");
        router.serve().await?;
        Ok(Self::new(router, BTreeMap::new(), &["a", "b", "c", "d"]))
    }

    /// Two masters, a and b.
    pub(crate) async fn on(engine: Engine) -> Result<Self> {
        let masters = start_masters(engine).await?;
        let shards = shards(&masters);
        let router = Router::init_and_serve(&shards, NO_SWEEPING).await?;
        Ok(Self::new(router, masters, &["a", "b"]))
    }

    /// A router over databases that somebody else set up; it may never become healthy.
    pub(crate) fn new(router: Router, masters: BTreeMap<String, Server>, shards: &[&str]) -> Self {
        Self {
            router,
            masters,
            shards: shards.iter().map(|&name| name.to_owned()).collect(),
            value_bytes_max: 1 << 20,
            sessions: BTreeMap::new(),
        }
    }

    /// Starts the router again with another limit for values.
    pub(crate) async fn allow_values_of(&mut self, bytes: usize) -> Result<()> {
        self.value_bytes_max = bytes;
        self.restart_with(&[("SERVER__VALUE_BYTES_MAX", &bytes.to_string())])
            .await
    }

    /// Starts the router again with lanes that are soon full: one for writes, of 128 keys. As long
    /// as a server is frozen no lane gives its connection up.
    pub(crate) async fn shorten_lanes(&mut self) -> Result<()> {
        self.restart_with(&[
            ("LANES__READS", "1"),
            ("LANES__WRITES", "1"),
            ("LANES__QUEUE_KEYS_MAX", "128"),
            ("LANES__STATEMENT_TIMEOUT_MS", "120000"),
            ("SERVER__CALLS_MAX", "65536"),
            ("SERVER__REQUEST_TIMEOUT_MS", "5000"),
        ])
        .await
    }

    /// Starts the router again with few calls at once, each with time for a wait for a lock.
    pub(crate) async fn allow_few_calls(&mut self) -> Result<()> {
        self.restart_with(&[
            ("SERVER__CALLS_MAX", "8"),
            ("SERVER__REQUEST_TIMEOUT_MS", "60000"),
        ])
        .await
    }

    /// The connection to a shard's master on which a script's statements run.
    pub(crate) async fn session(&mut self, shard: &str) -> Result<&mut Sql> {
        let master = self.masters.get(shard).ok_or_else(|| Error::Missing {
            what: format!("shard {shard}"),
            remedy: "name one that the scene has".to_owned(),
        })?;
        match self.sessions.entry(shard.to_owned()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(master.connect().await?)),
        }
    }

    async fn restart_with(&mut self, settings: &[(&str, &str)]) -> Result<()> {
        self.router.stop(Duration::from_secs(30)).await?;
        for (name, value) in settings {
            self.router
                .set_environment(&format!("FREEHOLD__{name}"), value);
        }
        self.router.serve().await
    }

    /// `name=tag` for each shard: the tag's slot is its own, as `init` deals slots out.
    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        let shards = self.shards.iter().enumerate();
        shards
            .map(|(index, name)| (name.clone(), tag_of(index, self.shards.len())))
            .collect()
    }
}

/// The masters of shards a and b.
pub(crate) async fn start_masters(engine: Engine) -> Result<BTreeMap<String, Server>> {
    let options = || ServerOptions::new(engine);
    let (a, b) = tokio::try_join!(Server::start(options()), Server::start(options()))?;
    Ok(BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]))
}

/// One shard for each master.
pub(crate) fn shards(masters: &BTreeMap<String, Server>) -> Vec<Shard> {
    let shards = masters.iter();
    shards
        .map(|(name, master)| Shard::new(name, master, &[]))
        .collect()
}

/// A tag whose slot belongs to a shard.
pub(crate) fn tag_of(shard: usize, shards: usize) -> String {
    let share = even_share(shard, shards);
    let mut tags = (0_u32..).map(|number| number.to_string());
    tags.find(|tag| share.contains(&slot_of(tag)))
        .expect("every share has a tag")
}

/// The slot of a tag.
pub(crate) fn slot_of(tag: &str) -> u16 {
    Key::new(tag.to_owned()).expect("a key").slot().0
}
