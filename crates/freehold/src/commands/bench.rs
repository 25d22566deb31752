//! `freehold bench`.
//!
//! Keys of its own are filled in, callers read and write them ([`load`]), figures are shown every
//! second and at the end ([`figures`]), and the keys are deleted. They have a time to live as well:
//! a run that is killed leaves nothing for long.

mod figures;
mod load;

use std::{io, time::Duration};

use clap::Args;
use freehold_client::{Client, Write};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::{
    figures::{Figures, Second},
    load::{Keys, Load},
};
use crate::{
    args::RouterArgs,
    duration::parse_duration,
    exit::{Exit, Failure},
    output::{Output, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold bench
  freehold bench --callers 256 --duration 30s --reads 50
  freehold bench --value-bytes 10000 --keys 1000 --json

It puts load on a router and the databases behind it: think before you do that to one that others
use. All keys begin with `freehold-bench:` and a random number, are deleted at the end, and expire by
themselves ten minutes after the run at the latest. `freehold-bench compare`, in the sources, compares
Freehold with calling the database directly.";

/// What the keys outlive a run by.
const TTL_BEYOND: Duration = Duration::from_secs(600);

/// Keys in one batch while filling in and deleting, at most.
const BATCH_KEYS: usize = 500;

/// Bytes of values in one batch, at most: half of what a router takes.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Callers that each have one call outstanding
    #[arg(long, value_name = "CALLERS", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How many calls of a hundred are reads; the others are writes
    #[arg(long, value_name = "PERCENT", default_value_t = 90,
          value_parser = clap::value_parser!(u32).range(0..=100))]
    reads: u32,
    /// How many keys
    #[arg(long, value_name = "KEYS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(16..))]
    value_bytes: u32,
    /// Streams that all callers share
    #[arg(long, value_name = "STREAMS", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    streams: u16,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: BenchArgs, output: Output) -> Result<Exit, Failure> {
    let mut random = super::random()?;
    let keys = Keys {
        prefix: format!("freehold-bench:{:08x}:", random.next_u32()),
        count: args.keys,
        value_bytes: args.value_bytes as usize,
        ttl: args.duration.saturating_add(TTL_BEYOND),
    };
    let client = args.router.connect_with(usize::from(args.streams)).await?;
    if !output.is_json() {
        output.note(&format!(
            "{} that begin with {} are written, and deleted at the end",
            human::plural(args.keys.into(), "key"),
            keys.prefix
        ));
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopped.cancel();
        }
        // The keys expire by themselves.
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(Exit::NotApplied as u8));
        }
    });
    let measured = fill_and_measure(&args, &client, &keys, &mut random, &stop, output).await;
    // Whatever came before: nothing of it stays if that can be helped.
    let deleted = write_all(&client, &keys, |number| Write::delete(keys.key(number))).await;
    if let Err(error) = &deleted {
        output.note(&format!(
            "not all keys that begin with {} were deleted ({error}); they expire within {}",
            keys.prefix,
            human::duration(keys.ttl)
        ));
    }
    let figures = measured?;
    figures.summary(&args, &keys, deleted.is_ok(), output)?;
    Ok(match figures.failed() {
        0 => Exit::Done,
        _ => Exit::NotFound,
    })
}

async fn fill_and_measure(
    args: &BenchArgs,
    client: &Client,
    keys: &Keys,
    random: &mut StdRng,
    stop: &CancellationToken,
    output: Output,
) -> Result<Figures, Failure> {
    let put = |number| Write::Put {
        key: keys.key(number),
        value: keys.value(number, 0),
        ttl: Some(keys.ttl),
    };
    tokio::select! {
        filled = write_all(client, keys, put) => filled?,
        () = stop.cancelled() => {
            let interrupted = io::ErrorKind::Interrupted.into();
            return Err(Failure::io("the keys were not all written", interrupted));
        }
    }
    let began = Instant::now();
    let load = Load::start(client, keys, args.callers, args.reads, random);
    let live = live(output);
    let mut figures = Figures::default();
    let second = Duration::from_secs(1);
    let mut seconds = interval_at(began + second, second);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                let seen = load.take();
                show(&seen, began.elapsed(), output, &live)?;
                figures.add(&seen);
            }
            () = tokio::time::sleep_until(began + args.duration) => break,
            // What was measured until then counts.
            () = stop.cancelled() => break,
        }
    }
    // What is under way ends, and counts, with the time that it takes.
    let wrong = load.stop().await;
    let elapsed = began.elapsed();
    figures.add(&load.take());
    live.finish_and_clear();
    figures.finish(elapsed, wrong);
    Ok(figures)
}

/// Writes every key, in batches; the first that fails ends it.
async fn write_all(
    client: &Client,
    keys: &Keys,
    write: impl Fn(u32) -> Write,
) -> Result<(), Failure> {
    let at_once = (BATCH_BYTES / keys.value_bytes.max(1)).clamp(1, BATCH_KEYS);
    let numbers: Vec<u32> = (0..keys.count).collect();
    for some in numbers.chunks(at_once) {
        let writes = some.iter().map(|number| write(*number));
        for result in client.batch_write(writes).await? {
            result?;
        }
    }
    Ok(())
}

/// A line on a terminal; nothing elsewhere, and nothing for programs.
fn live(output: Output) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("{spinner} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(
    seen: &Second,
    elapsed: Duration,
    output: Output,
    live: &ProgressBar,
) -> Result<(), Failure> {
    if output.is_json() {
        let second = elapsed.as_secs();
        return output.json(&json!({ "second": second, "seen": seen.to_json() }));
    }
    live.set_message(seen.line());
    live.tick();
    Ok(())
}
