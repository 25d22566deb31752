//! A third shard gets its share from two, without requests and under them.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::moving::Stage;
use crate::moving::command::carry_out;
use crate::moving::dump::{Dumped, Share, dump};
use crate::moving::rounds::Turn;
use crate::moving::servers::{NEW, Pair, Servers};

/// The shard is filled twice, and emptied again.
#[derive(Debug, Clone, Serialize)]
pub struct Filling {
    /// While nobody asks for anything.
    pub idle: Filled,
    /// While callers ask.
    pub loaded: Filled,
}

/// What it took.
#[derive(Debug, Clone, Serialize)]
pub struct Filled {
    /// How long the command took.
    pub seconds: f64,
    /// Rows that it copied.
    pub rows: u64,
    /// How long a dump of the rows of the same slots took, at the same load.
    pub dump_seconds: f64,
    /// Rows of the dump.
    pub dump_rows: u64,
    /// What callers saw meanwhile, if there were any.
    pub requests: Option<Turn>,
}

/// What `freehold --json rebalance --dry-run` prints.
#[derive(Debug, Deserialize)]
struct Planned {
    plan: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    source: String,
    slots: String,
}

/// Adds a shard, and fills and empties it in rounds. In the end it has its share.
///
/// # Errors
/// Of a caller, a move or a dump.
pub async fn measure(stage: &mut Stage) -> Result<Vec<Filling>> {
    stage.servers.add().await?;
    let spare = stage.servers.spare().await?;
    let mut fillings = Vec::new();
    for number in 0..stage.options.rounds {
        let dumped = dump_share(&stage.servers, &spare).await?;
        let moved = carry_out(stage.servers.router(), &["rebalance"]).await?;
        let idle = Filled::new(moved.seconds, moved.rows, dumped, None);
        empty(&stage.servers).await?;

        let mut callers = stage.callers();
        let (dumped, _) = callers.during(dump_share(&stage.servers, &spare)).await?;
        let words = ["rebalance"];
        let rebalance = carry_out(stage.servers.router(), &words);
        let (moved, seen) = callers.during(rebalance).await?;
        let requests = Some(Turn::of(&seen)?);
        let loaded = Filled::new(moved.seconds, moved.rows, dumped, requests);
        stage.own = callers.stop().await?;
        if number + 1 < stage.options.rounds {
            empty(&stage.servers).await?;
        }
        let words = |filled: &Filled| {
            format!(
                "{} rows in {:.1} s (dump: {} in {:.1} s)",
                filled.rows, filled.seconds, filled.dump_rows, filled.dump_seconds
            )
        };
        eprintln!(
            "filling {}: {}; under requests {}",
            number + 1,
            words(&idle),
            words(&loaded)
        );
        fillings.push(Filling { idle, loaded });
    }
    Ok(fillings)
}

impl Filled {
    fn new(seconds: f64, rows: u64, dumped: Dumped, requests: Option<Turn>) -> Self {
        Self {
            seconds,
            rows,
            dump_seconds: dumped.seconds,
            dump_rows: dumped.rows,
            requests,
        }
    }
}

async fn empty(servers: &Servers) -> Result<()> {
    carry_out(servers.router(), &["drain", NEW]).await?;
    Ok(())
}

/// What the new shard would get.
async fn dump_share(servers: &Servers, spare: &Pair) -> Result<Dumped> {
    let words = ["rebalance", "--dry-run", "--json"];
    let planned = servers.router().with_config(&words).await?.success()?;
    let planned: Planned = serde_json::from_str(&planned)?;
    let mut shares = Vec::new();
    for Step { source, slots } in planned.plan {
        let slots = slots.parse()?;
        shares.push(Share { source, slots });
    }
    dump(servers, spare, &shares).await
}
