//! A router that plans and moves, and this command, which watches.

use std::time::Duration;

use freehold_client::{
    AdminClient, Error,
    error::{NO_ANSWER, NOT_SENT},
};
use freehold_mover::Pause;
use freehold_proto::v1;
use freehold_router::movers::{Limits, Wish};
use rand::{Rng as _, rngs::StdRng};
use tokio::{
    signal,
    time::{Instant, sleep},
};

use super::{
    Task,
    ended::Ended,
    show::{Bar, Seen, TICK},
};
use crate::{
    args::AdminArgs,
    commands::random,
    exit::Failure,
    output::{Output, human},
    planning::{
        Plan,
        wire::{self, duration},
    },
};

/// How long a router may be silent: as long as one takes to start again.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often a silent router is asked.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often a router is asked for a move that it does not run: it asks all shards for it.
const ELSEWHERE_TICK: Duration = Duration::from_secs(1);

/// A router that does the work.
pub(super) struct ByRouter {
    admin: AdminClient,
    random: StdRng,
}

impl ByRouter {
    pub(super) async fn connect(admin: &AdminArgs) -> Result<Self, Failure> {
        Ok(Self {
            admin: admin.connect().await?,
            random: random()?,
        })
    }

    /// An id for a move.
    pub(super) fn draw(&mut self) -> u64 {
        self.random.next_u64().max(1)
    }

    pub(super) async fn plan(&self, wish: &Wish) -> Result<Plan, Failure> {
        let planned = self.admin.plan_moves(wire::request(wish)).await?;
        wire::plan(planned).map_err(|error| Failure::Stopped(format!("the router's plan: {error}")))
    }

    /// Has the router move, and shows how far it is. None if somebody ended the watching.
    pub(super) async fn run(
        &self,
        task: &Task,
        limits: &Limits,
        output: Output,
    ) -> Result<Option<Ended>, Failure> {
        let bar = Bar::new(output, task.slots.len() as u64);
        let ended = tokio::select! {
            ended = self.start_and_watch(task, limits, &bar, output) => Some(ended),
            _ = signal::ctrl_c() => None,
        };
        bar.clear();
        let id = format!("{:016x}", task.id);
        let Some(ended) = ended else {
            output.note(&format!(
                "the router goes on with the move: freehold moves --watch --id {id} shows how far it \
                 is, and freehold moves --cancel --id {id} takes it back"
            ));
            return Ok(None);
        };
        match &ended {
            Err(Failure::Call(error)) if is_silent(error) => output.note(&format!(
                "the router does not answer. If it died, another one goes on with the move within \
                 seconds: freehold moves --watch --id {id} --admin HOST:PORT, with the address of \
                 another router, shows how far it is"
            )),
            Err(Failure::Call(error)) if is_borne(error) => output.note(&format!(
                "the move goes on as soon as it can, if it has begun: freehold moves --id {id} shows it"
            )),
            _ => {}
        }
        ended.map(Some)
    }

    async fn start_and_watch(
        &self,
        task: &Task,
        limits: &Limits,
        bar: &Bar,
        output: Output,
    ) -> Result<Ended, Failure> {
        let request = v1::StartMoveRequest {
            id: task.id,
            source: task.source.clone(),
            target: task.target.clone(),
            slots: task.slots.to_string(),
            bytes_per_second_max: limits.bytes_per_second_max,
            latency_factor_max: limits.latency_factor_max,
        };
        patiently(async || self.admin.start_move(request.clone()).await).await?;
        let mut waits_for = String::new();
        loop {
            let told = patiently(async || self.admin.get_move(task.id).await).await?;
            bar.show(&seen(&told));
            match told.state() {
                v1::MoveState::Done | v1::MoveState::Cancelled => return ended(task, &told),
                v1::MoveState::Stopped => return Err(Failure::Stopped(told.error)),
                v1::MoveState::Running | v1::MoveState::Unspecified => {}
            }
            if told.error != waits_for && !told.error.is_empty() {
                bar.note(&format!("the move waits: {}", told.error), output);
            }
            waits_for.clone_from(&told.error);
            sleep(match told.held_here {
                true => TICK,
                false => ELSEWHERE_TICK,
            })
            .await;
        }
    }
}

/// Asks until there is an answer, or has been none for too long.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if is_borne(&error) && began.elapsed() < SILENCE_MAX => {
                sleep(ASKED_AGAIN_AFTER).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// Whether the router has not answered, or is about to end.
fn is_silent(error: &Error) -> bool {
    [NO_ANSWER, NOT_SENT, "SHUTTING_DOWN"].contains(&reason(error))
}

/// Whether it may be otherwise soon.
fn is_borne(error: &Error) -> bool {
    is_silent(error) || reason(error) == "SHARD_UNAVAILABLE"
}

fn reason(error: &Error) -> &str {
    match error {
        Error::NotApplied { reason, .. } => reason,
        _ => "",
    }
}

fn seen(told: &v1::GetMoveResponse) -> Seen {
    let progress = told.progress.clone().unwrap_or_default();
    let doing = match (told.error.is_empty(), told.held_here) {
        (false, _) => "waiting".to_owned(),
        (true, true) => progress.doing,
        (true, false) => "elsewhere".to_owned(),
    };
    Seen {
        slots_done: progress.slots_done,
        rows: progress.rows,
        bytes: progress.bytes,
        doing,
        resting_percent: progress.resting_percent.into(),
        pause_last: progress.pause_last.map(|last| pause(last).whole()),
    }
}

fn pause(told: v1::MovePause) -> Pause {
    Pause {
        slots: told.slots as usize,
        fence: told.fence.and_then(duration).unwrap_or_default(),
        drain: told.drain.and_then(duration).unwrap_or_default(),
        replicas: told.replicas.and_then(duration).unwrap_or_default(),
        opening: told.opening.and_then(duration).unwrap_or_default(),
    }
}

/// What a move came to that has ended. One that somebody took back has not done what it should.
fn ended(task: &Task, told: &v1::GetMoveResponse) -> Result<Ended, Failure> {
    let slots = |text: &str| text.parse().unwrap_or_default();
    let progress = told.progress.clone().unwrap_or_default();
    let ended = match &told.outcome {
        Some(outcome) => Ended {
            moved: slots(&outcome.moved),
            returned: slots(&outcome.returned),
            rows: outcome.rows,
            bytes: outcome.bytes,
            rows_verified: Some(outcome.rows_verified),
            pauses: Some(outcome.pauses.iter().copied().map(pause).collect()),
        },
        // If it was not taken back.
        None => Ended {
            moved: task.slots.clone(),
            rows: progress.rows,
            bytes: progress.bytes,
            ..Ended::default()
        },
    };
    let all = task.slots.len() as u64;
    let moved = match (&told.outcome, told.state()) {
        (None, v1::MoveState::Cancelled) => progress.slots_done.min(all),
        _ => ended.moved.len() as u64,
    };
    if moved == all {
        return Ok(ended);
    }
    Err(Failure::Stopped(format!(
        "somebody cancelled the move: '{}' keeps {} of its {}",
        task.source,
        human::count(all - moved),
        human::plural(all, "slot"),
    )))
}

#[cfg(test)]
mod tests {
    use freehold_mover::Aim;

    use super::*;

    fn task() -> Task {
        Task {
            id: 1,
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: "0-9".parse().unwrap(),
            aim: Aim::Move,
        }
    }

    fn told(state: v1::MoveState) -> v1::GetMoveResponse {
        v1::GetMoveResponse {
            state: state.into(),
            progress: Some(v1::MoveProgress {
                rows: 7,
                ..v1::MoveProgress::default()
            }),
            ..v1::GetMoveResponse::default()
        }
    }

    #[test]
    fn what_another_router_ended_is_told_as_far_as_it_is_known() {
        let ended = ended(&task(), &told(v1::MoveState::Done)).unwrap();
        assert_eq!((ended.moved.len(), ended.rows), (10, 7));
        assert_eq!((ended.rows_verified, ended.pauses), (None, None));
    }

    #[test]
    fn a_move_that_was_taken_back_is_not_done() {
        let mut partly = told(v1::MoveState::Done);
        partly.outcome = Some(v1::MoveOutcome {
            moved: "0-3".to_owned(),
            returned: "4-9".to_owned(),
            ..v1::MoveOutcome::default()
        });
        // Another router knows how many have their new owner, not which.
        let mut elsewhere = told(v1::MoveState::Cancelled);
        elsewhere.progress.as_mut().unwrap().slots_done = 3;
        for (told, keeps) in [
            (told(v1::MoveState::Cancelled), "10 of"),
            (partly, "6 of"),
            (elsewhere, "7 of"),
        ] {
            let failure = ended(&task(), &told).unwrap_err();
            assert!(failure.to_string().contains(keeps), "{failure}");
        }
    }

    #[test]
    fn only_what_passes_is_borne() {
        let error = |reason: &str| Error::NotApplied {
            reason: reason.to_owned(),
            message: String::new(),
            retry_after: None,
        };
        for reason in [NO_ANSWER, NOT_SENT, "SHUTTING_DOWN"] {
            assert!(is_silent(&error(reason)) && is_borne(&error(reason)));
        }
        let down = error("SHARD_UNAVAILABLE");
        assert!(is_borne(&down) && !is_silent(&down));
        assert!(!is_borne(&error("ROUTER_OCCUPIED")));
    }
}
