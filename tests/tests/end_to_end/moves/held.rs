//! Movers that are held at a point, and go on, or end there as a kill ends them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use freehold_core::{SlotSet, moving::Aim};
use freehold_mover::{MoveError, Mover, Outcome, Point, Points};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use super::WITHIN;
use crate::scene::Result;

/// A mover under way.
pub(crate) type Run = JoinHandle<Result<Outcome, MoveError>>;

/// A mover that stands at a point.
pub(crate) struct Held {
    gate: Arc<Gate>,
    run: Run,
}

/// Where it stands, the first time that it comes by.
struct Gate {
    point: Point,
    passed: AtomicBool,
    reached: Semaphore,
    open: Semaphore,
}

impl Held {
    /// Runs a mover until it is at a point.
    pub(crate) async fn at(
        mover: Mover,
        id: u64,
        slots: &SlotSet,
        aim: Aim,
        point: Point,
    ) -> Result<Self> {
        let gate = Arc::new(Gate {
            point,
            passed: AtomicBool::new(false),
            reached: Semaphore::new(0),
            open: Semaphore::new(0),
        });
        let (mover, slots) = (mover.watched_by(gate.clone()), slots.clone());
        let mut run = tokio::spawn(async move { mover.run(id, &slots, aim).await });
        tokio::select! {
            reached = timeout(WITHIN, gate.reached.acquire()) => reached??.forget(),
            ended = &mut run => return Err(format!("not at {point:?}, but {ended:?}").into()),
        }
        Ok(Self { gate, run })
    }

    /// Ends it as a kill does: with all its connections.
    pub(crate) async fn kill(self) {
        self.run.abort();
        let ended = self.run.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }

    /// Lets it go on.
    pub(crate) fn go_on(self) -> Run {
        self.gate.open.add_permits(1);
        self.run
    }
}

#[async_trait]
impl Points for Gate {
    async fn at(&self, point: Point) {
        if point == self.point && !self.passed.swap(true, Ordering::Relaxed) {
            self.reached.add_permits(1);
            // Never closed.
            drop(self.open.acquire().await);
        }
    }
}

/// Runs a mover until it is at a point, and then ends it as a kill does.
pub(crate) async fn kill_at(
    mover: Mover,
    id: u64,
    slots: &SlotSet,
    aim: Aim,
    point: Point,
) -> Result<()> {
    Held::at(mover, id, slots, aim, point).await?.kill().await;
    Ok(())
}
