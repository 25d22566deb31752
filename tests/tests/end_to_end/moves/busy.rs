//! Two routers under load on two shards, and slots that move between them.

use freehold_mover::{Mover, MoverSettings};
use freehold_tests::{Engine, Router, Server, Shard, replication};
use tokio::time::Duration;

use super::{SLOTS_SQL, WITHIN, has, shard, slots};
use crate::{
    history::Ending,
    load::{Load, Outcome, Plan},
    scene::{Cluster, NAMES, Result, client},
    table,
};

/// Two routers, each under load.
pub(crate) struct Busy {
    pub(crate) cluster: Cluster,
    pub(crate) other: Router,
    /// One of each master, if there are any.
    pub(crate) replicas: Vec<Server>,
    loads: Vec<Load>,
}

/// Less than the machine bears, which has other things to do; half of the keys are in slots that move.
pub(crate) fn plan(seed: u64) -> Plan {
    Plan {
        timeout: WITHIN,
        unary: 4,
        pipelined: 4,
        // Four servers share the cores, and replicas have to follow.
        pause: Duration::from_millis(20),
        slots: 30_000..=31_000,
        ..Plan::new("", seed)
    }
}

impl Busy {
    /// With a replica of each master, which both routers know.
    pub(crate) async fn replicated(engine: Engine, more: &str, plan: &Plan) -> Result<Self> {
        let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
        let (of_a, of_b) = tokio::try_join!(
            replication::start_replica(&a),
            replication::start_replica(&b)
        )?;
        let on = [
            Shard::new(NAMES[0], &a, &[&of_a]),
            Shard::new(NAMES[1], &b, &[&of_b]),
        ];
        let cluster = Cluster {
            router: Router::init_and_serve(&on, more).await?,
            masters: vec![a, b],
        };
        let mut busy = Self::start(cluster, &on, more, plan).await?;
        busy.replicas = vec![of_a, of_b];
        Ok(busy)
    }

    /// `more` is TOML that comes before the shards of the second router.
    pub(crate) async fn start(
        cluster: Cluster,
        shards: &[Shard],
        more: &str,
        plan: &Plan,
    ) -> Result<Self> {
        let mut other = Router::configure(shards, more)?;
        other.serve().await?;
        let mut loads = Vec::new();
        for (address, name) in [
            (cluster.router.address(), "one"),
            (other.address(), "another"),
        ] {
            let prefix = format!("{}{name}", plan.prefix);
            let plan = Plan {
                prefix,
                ..plan.clone()
            };
            loads.push(Load::start(address, &plan).await?);
        }
        let busy = Self {
            cluster,
            other,
            replicas: Vec::new(),
            loads,
        };
        busy.goes_on().await?;
        Ok(busy)
    }

    /// From one shard to the other one.
    pub(crate) fn mover(&self, source: usize, seed: u64) -> Result<Mover> {
        let side = |place: usize| {
            let master = self.cluster.masters.get(place);
            let servers = master.into_iter().chain(self.replicas.get(place));
            shard(NAMES[place], &servers.collect::<Vec<_>>())
        };
        let settings = MoverSettings {
            page_rows_max: 200,
            batch_slots_max: 400,
            // A replica of a busy machine may be late for longer than writes should wait.
            wait_max: WITHIN / 4,
            // Requests of tests are few, and tests many.
            latency_factor_max: None,
            ..MoverSettings::default()
        };
        let name = format!("test {seed}");
        Ok(Mover::new(
            side(source)?,
            side(1 - source)?,
            settings,
            seed,
            name,
        ))
    }

    pub(crate) async fn goes_on(&self) -> Result<()> {
        for load in &self.loads {
            load.until_done(50).await?;
        }
        Ok(())
    }

    /// All of the slots that move are with one shard, no row of them is on the other one, and nothing
    /// of a move is left anywhere: no fence, no log.
    pub(crate) async fn are_settled_at(&self, owner: usize, when: &str) -> Result<()> {
        for (place, master) in self.cluster.masters.iter().enumerate() {
            let (owned, rows, logged) = has(master).await?;
            let way = format!(
                "SELECT COUNT(*) FROM slots WHERE state NOT IN ('owned', 'gone') AND {SLOTS_SQL}"
            );
            let on_their_way: u64 = master.connect().await?.one(&way).await?;
            assert_eq!((on_their_way, logged), (0, 0), "{when}: {}", NAMES[place]);
            match place == owner {
                true => assert_eq!(owned, slots().len() as u64, "{when}: {}", NAMES[place]),
                false => assert_eq!((owned, rows), (0, 0), "{when}: {}", NAMES[place]),
            }
        }
        Ok(())
    }

    /// Nothing failed, nothing is lost.
    pub(crate) async fn end(self) -> Result<()> {
        self.ended().await.map(drop)
    }

    /// The same, with what the writers of each router did.
    pub(crate) async fn ended(self) -> Result<Vec<Outcome>> {
        let outcomes = self.ended_after_faults().await?;
        for outcome in &outcomes {
            outcome.is_undisturbed();
        }
        Ok(outcomes)
    }

    /// Whatever failed, nothing is lost, and no row is where it does not belong. Replicas have what
    /// their masters have.
    pub(crate) async fn ended_after_faults(self) -> Result<Vec<Outcome>> {
        self.goes_on().await?;
        let client = client(&self.cluster.router).await?;
        let mut outcomes = Vec::new();
        for load in self.loads {
            let outcome = load.stop().await?;
            println!(
                "{} calls ended well, the longest took {:?}; {} failed; {} keys of unknown outcome; 0 \
                 lost",
                outcome.done,
                outcome.longest,
                outcome.failures.values().sum::<u64>(),
                outcome.history.count(Ending::Unknown)
            );
            assert_eq!(outcome.violations, [""; 0]);
            table::audit(&client, &outcome.history).await?;
            outcomes.push(outcome);
        }
        let audit = self.cluster.router.with_config(&["audit"]).await?;
        println!("{}", audit.success()?);
        Ok(outcomes)
    }
}
