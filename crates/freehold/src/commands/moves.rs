//! `freehold moves`.

use std::time::Duration;

use clap::Args;
use freehold_mover::{Aim, MoveError};
use freehold_proto::v1::{self, MoveInfo};
use freehold_router::movers::Limits;
use freehold_storage::moves::{MoveRecord, MoveState};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::moving::{self, Field, NO_ID, Task};
use crate::{
    args::SteerArgs,
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold moves                                     what was moved, and what is under way
  freehold moves --watch                             until nothing is under way any more
  freehold moves --resume                            have the router go on with what was interrupted
  freehold moves --cancel                            go back, as far as slots have no new owner yet
  freehold moves --config freehold.toml --cancel     do so here, without a router

Routers go on by themselves with a move whose mover died, or that waits for a shard or a replica. One
that was stopped by Ctrl-C, or because rows differ, waits for --resume or --cancel. Both take a move
over that still runs elsewhere; there it stops then. Slots that have their new owner already stay with
it: a new move brings them back.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MovesArgs {
    /// Go on with the moves that are open
    #[arg(long, conflicts_with_all = ["cancel", "watch"])]
    resume: bool,
    /// Take the moves that are open back
    #[arg(long, conflicts_with = "watch")]
    cancel: bool,
    /// Show them again and again until none is running
    #[arg(long)]
    watch: bool,
    /// Only this move
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    id: Option<u64>,
    #[command(flatten)]
    steer: SteerArgs,
}

const WATCH_EVERY: Duration = Duration::from_secs(1);

fn parse_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "an id is 16 hex digits".to_owned())
}

pub(crate) async fn run(args: MovesArgs, output: Output) -> Result<Exit, Failure> {
    let changes = args.resume || args.cancel;
    let Some(config) = args.steer.by_itself()? else {
        return by_router(args, output).await;
    };
    let mut field = Field::open(&config, &args.steer.account, changes)?;
    let chosen = |record: &MoveRecord| args.id.is_none_or(|id| id == record.id);
    loop {
        let mut records = field.records().await?;
        if !args.watch {
            records = [field.orphans().await?, records].concat();
        }
        records.retain(chosen);
        if changes {
            return go_on(&mut field, records, args.cancel, output).await;
        }
        show(&records, output)?;
        let running = records
            .iter()
            .any(|record| record.state == MoveState::Running);
        if !args.watch || !running {
            return Ok(Exit::Done);
        }
        sleep(WATCH_EVERY).await;
    }
}

async fn by_router(args: MovesArgs, output: Output) -> Result<Exit, Failure> {
    let admin = args.steer.admin.connect().await?;
    let ids: Vec<u64> = args.id.into_iter().collect();
    let begun = match (args.resume, args.cancel) {
        (true, _) => {
            let resumed = admin.resume_moves(ids).await?;
            Some((resumed.moves, resumed.errors))
        }
        (_, true) => {
            let cancelled = admin.cancel_moves(ids).await?;
            Some((cancelled.moves, cancelled.errors))
        }
        _ => None,
    };
    if let Some((begun, errors)) = begun {
        let begun: Vec<MoveRecord> = begun.into_iter().filter_map(of_wire).collect();
        match begun.is_empty() {
            true if !output.is_json() && errors.is_empty() => output.line("no move is open")?,
            true => show(&begun, output)?,
            false => {
                show(&begun, output)?;
                let watch = "freehold moves --watch shows how far it is";
                output.note(&format!("the router goes on with them: {watch}"));
            }
        }
        errors.iter().for_each(|error| output.note(error));
        return Ok(match errors.is_empty() {
            true => Exit::Done,
            false => Exit::NotApplied,
        });
    }
    loop {
        let listed = admin.list_moves().await?;
        let records = listed.moves.into_iter().filter_map(of_wire);
        let records = records.filter(|record| args.id.is_none_or(|id| id == record.id));
        let records: Vec<MoveRecord> = records.collect();
        show(&records, output)?;
        for error in &listed.errors {
            output.note(error);
        }
        let running = |record: &MoveRecord| record.state == MoveState::Running;
        if !args.watch || !records.iter().any(running) {
            return Ok(match listed.errors.is_empty() {
                true => Exit::Done,
                false => Exit::NotApplied,
            });
        }
        sleep(WATCH_EVERY).await;
    }
}

/// What a router says of a move; none if this version cannot tell what it is.
fn of_wire(info: MoveInfo) -> Option<MoveRecord> {
    let state = match info.state() {
        v1::MoveState::Unspecified => return None,
        v1::MoveState::Running => MoveState::Running,
        v1::MoveState::Stopped => MoveState::Stopped,
        v1::MoveState::Done => MoveState::Done,
        v1::MoveState::Cancelled => MoveState::Cancelled,
    };
    let pause = info
        .pause_max
        .and_then(|pause| Duration::try_from(pause).ok());
    let pause = pause.unwrap_or_default().as_micros();
    Some(MoveRecord {
        id: info.id,
        source: info.source,
        target: info.target,
        slots: info.slots.parse().ok()?,
        state,
        cancels: info.cancels,
        mover: info.mover,
        slots_done: info.slots_done,
        rows: info.rows,
        bytes: info.bytes,
        pause_us_max: u64::try_from(pause).unwrap_or(u64::MAX),
        error: info.error,
        started_at: info.started_at_unix_ms,
        changed_at: info.changed_at_unix_ms,
    })
}

async fn go_on(
    field: &mut Field,
    records: Vec<MoveRecord>,
    cancel: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let open: Vec<MoveRecord> = records
        .into_iter()
        .filter(|record| record.state.is_open())
        .collect();
    if open.is_empty() && !output.is_json() {
        output.line("no move is open")?;
    }
    let mut failed = Vec::new();
    // The oldest first, as they were begun. One that cannot go on keeps no other from it.
    for record in open.into_iter().rev() {
        let task = Task {
            id: match record.id {
                NO_ID => field.draw(),
                id => id,
            },
            source: record.source,
            target: record.target,
            slots: record.slots,
            // A cancel that was interrupted is not turned into a move again.
            aim: match cancel || record.cancels {
                true => Aim::Cancel,
                false => Aim::Move,
            },
        };
        match field.run(&task, &Limits::default(), output).await {
            Ok(ended) => moving::tell(&task, &ended, output)?,
            // Somebody wants it to end.
            Err(Failure::Move(error @ (MoveError::Interrupted | MoveError::LeftToOthers))) => {
                return Err(error.into());
            }
            Err(failure) => failed.push((task.id, failure)),
        }
    }
    let Some((last, failure)) = failed.pop() else {
        return Ok(Exit::Done);
    };
    if failed.is_empty() {
        return Err(failure);
    }
    for (id, failure) in &failed {
        output.note(&format!("move {id:016x}: {failure}"));
    }
    Err(Failure::Stopped(format!("move {last:016x}: {failure}")))
}

fn show(records: &[MoveRecord], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let moves: Vec<Value> = records.iter().map(record_json).collect();
        return output.json(&json!({ "moves": moves }));
    }
    if records.is_empty() {
        return output.line("nothing was moved yet");
    }
    let headings = [
        "ID",
        "STARTED",
        "FROM",
        "TO",
        "SLOTS",
        "DONE",
        "STATE",
        "ROWS",
        "LONGEST PAUSE",
        "BY",
    ];
    let mut table = table::table(&headings);
    for record in records {
        let good = record.error.is_empty();
        let waits = format!("waits: {}", record.error);
        let state = match (record.state, record.error.as_str()) {
            (MoveState::Running, "") if record.cancels => "being cancelled",
            (MoveState::Running, "") => "running",
            (MoveState::Running, _) => &waits,
            (MoveState::Stopped, error) => error,
            (state, _) => state.as_str(),
        };
        table.add_row(vec![
            id(record).unwrap_or_default().into(),
            started(record).into(),
            record.source.as_str().into(),
            record.target.as_str().into(),
            crate::cluster::plan::ranges(record.slots.ranges()).into(),
            table::number(human::count(record.slots_done)),
            table::status(state, good),
            table::number(human::count(record.rows)),
            table::number(human::duration(Duration::from_micros(record.pause_us_max))),
            record.mover.as_str().into(),
        ]);
    }
    output.line(&table::render(&table))
}

/// None for slots that are half-way without a move in the list.
fn id(record: &MoveRecord) -> Option<String> {
    (record.id != NO_ID).then(|| format!("{:016x}", record.id))
}

fn started(record: &MoveRecord) -> String {
    match record.id {
        NO_ID => String::new(),
        _ => time(record.started_at),
    }
}

/// A time of a server's clock.
fn time(unix_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    let time = std::time::SystemTime::UNIX_EPOCH + since;
    humantime::format_rfc3339_seconds(time).to_string()
}

fn record_json(record: &MoveRecord) -> Value {
    json!({
        "id": id(record),
        "source": record.source,
        "target": record.target,
        "slots": record.slots.to_string(),
        "state": record.state.as_str(),
        "cancels": record.cancels,
        "mover": record.mover,
        "slots_done": record.slots_done,
        "rows": record.rows,
        "bytes": record.bytes,
        "pause_ms_max": Duration::from_micros(record.pause_us_max).as_secs_f64() * 1_000.0,
        "error": record.error,
        "started_at_ms": record.started_at,
        "changed_at_ms": record.changed_at,
    })
}
