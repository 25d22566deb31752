//! Slots move by the command while everything else breaks, and movers end anywhere.
//!
//! A mover reaches the servers as a router does, so that the network that fails between them fails
//! for it, too. One that was killed or stopped is followed by another that resumes or cancels what
//! it left, unless a router was there before, which goes on with what nobody runs; one that was
//! frozen wakes up when that is done, and has to find that nothing is its own any more.

use std::time::Duration;

use freehold_tests::{Process, Server, Signal};
use tokio::time::sleep;

use crate::Result;
use crate::cluster::Cluster;
use crate::handover::{NAMES, owned, ranges};
use crate::schedule::{Blow, Place, SHARDS};

/// Slots of one move, at most: a few batches of a mover.
pub const SLOTS_MAX: u16 = 4_096;

/// The log of all movers of a router's config.
pub const MOVERS: &str = "movers";

/// How long one command may take. A mover waits for a minute for what broke, and stops then.
const ENDS_WITHIN: Duration = Duration::from_secs(150);

/// Between two attempts to bring a move to its end.
const PAUSE: Duration = Duration::from_millis(300);

/// A move, and what is done to it.
#[derive(Debug, Clone, Copy)]
pub struct Moving {
    /// The shard that gets the slots.
    pub to: usize,
    /// The first of them.
    pub first: u16,
    /// Whose config it uses.
    pub router: usize,
    /// What becomes of the mover.
    pub blow: Option<Blow>,
    /// Whether the next one takes the move back.
    pub cancels: bool,
}

/// Moves some of what the other shard owns, from a slot on, strikes the mover after a while, and brings
/// the move to its end. Whether there was anything to move, and the blow met the mover while it ran.
/// The caller has [`Cluster::owners`].
pub async fn move_slots(cluster: &Cluster, moving: Moving, after: Duration) -> Result<bool> {
    let slots = {
        let source = cluster.server(Place::leader(1 - moving.to)).await;
        owned(&mut source.connect().await?, moving.first, SLOTS_MAX).await?
    };
    if slots.is_empty() {
        return Ok(false);
    }
    let slots: Vec<String> = ranges(&slots)
        .into_iter()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    let slots = slots.join(",");
    let mut mover = begin(
        cluster,
        moving.router,
        &["move", "--slots", &slots, "--to", NAMES[moving.to], "--yes"],
    )
    .await?;
    let Some(blow) = moving.blow else {
        if !mover.wait(ENDS_WITHIN).await?.success() {
            // Something else broke.
            end(cluster, moving.router, false).await?;
        }
        nothing_is_left(cluster).await?;
        return Ok(true);
    };
    sleep(after).await;
    let ran = mover.is_running();
    match blow {
        Blow::Kill => mover.kill(),
        // What Ctrl-C does.
        Blow::Stop => {
            mover.signal(Signal::INT)?;
            mover.wait(ENDS_WITHIN).await?;
        }
        Blow::Freeze => mover.freeze()?,
    }
    end(cluster, moving.router, moving.cancels).await?;
    if blow == Blow::Freeze {
        mover.thaw()?;
        // It may have been through before.
        mover.wait(ENDS_WITHIN).await?;
    }
    nothing_is_left(cluster).await?;
    Ok(ran)
}

async fn begin(cluster: &Cluster, router: usize, arguments: &[&str]) -> Result<Process> {
    let account = [
        "--user",
        "freehold_mover",
        "--password-env",
        "FREEHOLD_MOVER_PASSWORD",
    ];
    let router = cluster.router(router).lock().await;
    Ok(router.begin(&[arguments, &account].concat(), MOVERS)?)
}

/// Until no move is open. Servers that break meanwhile stop a mover.
async fn end(cluster: &Cluster, router: usize, cancels: bool) -> Result<()> {
    let aim = if cancels { "--cancel" } else { "--resume" };
    loop {
        let mut mover = begin(cluster, router, &["moves", aim]).await?;
        if mover.wait(ENDS_WITHIN).await?.success() {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// Whatever became of a move: no slot is on its way, and no key is logged.
pub async fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    for shard in 0..SHARDS {
        // Whoever breaks it mends it before.
        let master = cluster.server(Place::leader(shard)).await;
        let [on_their_way, logged] = left(&master).await?;
        if on_their_way + logged > 0 {
            return Err(format!(
                "{on_their_way} slots are on their way on shard {shard} and {logged} keys logged \
                 after the move's end"
            )
            .into());
        }
    }
    Ok(())
}

async fn left(master: &Server) -> Result<[u64; 2]> {
    let mut sql = master.connect().await?;
    let slots = "SELECT COUNT(*) FROM slots WHERE state IN ('incoming', 'outgoing', 'fenced')";
    Ok([
        sql.one(slots).await?,
        sql.one("SELECT COUNT(*) FROM moved_keys").await?,
    ])
}
