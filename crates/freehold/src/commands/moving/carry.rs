//! A plan shown, agreed to, and carried out: the same for every command that moves slots.

use clap::Args;
use freehold_core::limits::{MOVER_BYTES_PER_SECOND_MAX, MOVER_LATENCY_FACTORS};
use freehold_mover::Aim;
use freehold_router::movers::{Limits, Wish};
use tokio::signal;

use super::{Field, Task, by_router::ByRouter, confirm, ended::Ended, planned, tell};
use crate::{
    args::SteerArgs,
    exit::{Exit, Failure},
    output::Output,
    planning::{Plan, PlannedMove},
};

/// What becomes of the rest where nobody watches any more.
const NOT_BEGUN: &str = "what else was planned has not begun: run this command again for it";

/// How a plan is carried out.
#[derive(Debug, Args)]
pub(crate) struct CarryArgs {
    /// Show what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Copy no more than so many MiB per second
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MIB_MAX))]
    mib_per_second_max: Option<u64>,
    /// Rest while small writes take more than so many times as long as before; 0: never
    #[arg(long, value_name = "FACTOR", value_parser = parse_factor)]
    latency_factor_max: Option<f64>,
    #[command(flatten)]
    steer: SteerArgs,
}

const MIB_MAX: u64 = MOVER_BYTES_PER_SECOND_MAX >> 20;

fn parse_factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok();
    let factor = factor.filter(|factor| *factor == 0.0 || MOVER_LATENCY_FACTORS.contains(factor));
    let (least, most) = MOVER_LATENCY_FACTORS.into_inner();
    factor.ok_or_else(|| format!("use {least} to {most}, or 0"))
}

/// Who plans and moves.
enum Hands {
    /// This command.
    Own(Field),
    Router(ByRouter),
}

impl Hands {
    async fn plan(&self, wish: &Wish) -> Result<Plan, Failure> {
        match self {
            Self::Own(field) => field.plan(wish).await,
            Self::Router(router) => router.plan(wish).await,
        }
    }

    fn draw(&mut self) -> u64 {
        match self {
            Self::Own(field) => field.draw(),
            Self::Router(router) => router.draw(),
        }
    }

    /// Moves, and shows it. None if only the watching has ended.
    async fn run(
        &mut self,
        task: &Task,
        limits: &Limits,
        output: Output,
    ) -> Result<Option<Ended>, Failure> {
        match self {
            Self::Own(field) => field.run(task, limits, output).await.map(Some),
            Self::Router(router) => router.run(task, limits, output).await,
        }
    }
}

impl CarryArgs {
    /// Makes a plan of what is wished, shows it, asks, and carries it out. `nothing` is said where
    /// there is nothing to do.
    pub(crate) async fn carry_out(
        &self,
        wish: &Wish,
        nothing: &str,
        output: Output,
    ) -> Result<Exit, Failure> {
        let mut hands = self.hands().await?;
        let mut plan = hands.plan(wish).await?;
        let sample = plan.sample();
        if self.dry_run || !output.is_json() {
            planned::show(&plan, (nothing, sample.is_some()), output)?;
        }
        if self.dry_run || plan.moves.is_empty() {
            return Ok(Exit::Done);
        }
        if let Some(sample) = sample {
            let slots = sample.slots.len();
            let question =
                format!("Move {slots} of the slots first, to see how long the others take?");
            if !confirm(self.yes, &question).await? {
                output.note("nothing was moved");
                return Ok(Exit::NotApplied);
            }
            if !self.carry(&mut hands, sample, output).await? {
                output.note(NOT_BEGUN);
                return Ok(Exit::NotApplied);
            }
            plan = tokio::select! {
                plan = hands.plan(wish) => plan?,
                _ = signal::ctrl_c() => {
                    output.note(NOT_BEGUN);
                    return Ok(Exit::NotApplied);
                }
            };
            if !output.is_json() {
                planned::show(&plan, (nothing, false), output)?;
            }
            if plan.moves.is_empty() {
                return Ok(Exit::Done);
            }
        }
        if !confirm(self.yes, "Move them?").await? {
            output.note("they were not moved");
            return Ok(Exit::NotApplied);
        }
        let mut left = plan.moves.into_iter();
        while let Some(planned) = left.next() {
            match self.carry(&mut hands, planned, output).await {
                Ok(true) => {}
                Ok(false) => {
                    if left.len() > 0 {
                        output.note(NOT_BEGUN);
                    }
                    return Ok(Exit::NotApplied);
                }
                Err(Failure::OutputClosed) if left.len() > 0 => {
                    let why = format!("nobody reads what is told here; {NOT_BEGUN}");
                    return Err(Failure::Stopped(why));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Exit::Done)
    }

    /// Moves, and tells what came of it. False if only the watching has ended.
    async fn carry(
        &self,
        hands: &mut Hands,
        planned: PlannedMove,
        output: Output,
    ) -> Result<bool, Failure> {
        let task = Task {
            id: hands.draw(),
            source: planned.source,
            target: planned.target,
            slots: planned.slots,
            aim: Aim::Move,
        };
        match hands.run(&task, &self.limits(), output).await? {
            Some(ended) => {
                tell(&task, &ended, output)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn hands(&self) -> Result<Hands, Failure> {
        Ok(match self.steer.by_itself()? {
            Some(config) => Hands::Own(Field::open(&config, &self.steer.account, true)?),
            None => Hands::Router(ByRouter::connect(&self.steer.admin).await?),
        })
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes_per_second_max: self.mib_per_second_max.map(|mib| mib << 20),
            latency_factor_max: self.latency_factor_max,
        }
    }
}
