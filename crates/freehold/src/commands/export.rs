//! `freehold export`.
//!
//! A few tasks walk ranges of slots ([`walker`]), each one range after another, and hand over chunks
//! of lines; one writer takes them to the file ([`target`]). The queue between them is bounded: a
//! slow disk slows the walks down.

mod target;
mod walker;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Args;
use freehold_client::ScanOptions;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use self::{
    target::Target,
    walker::{Chunk, Ranges, Walker},
};
use crate::{
    args::{BytesArgs, ReadArgs, RouterArgs},
    duration::parse_duration,
    exit::{Exit, Failure},
    output::{Output, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold export everything.ndjson
  freehold export users.ndjson --prefix user:
  freehold export - | gzip > everything.ndjson.gz

Each line is {\"key\": ..., \"value\": ..., \"ttl\": SECONDS}; bytes that are not UTF-8 are in
key_base64 and value_base64. Keys are written one after another, not at one moment: a key that
lives throughout is there once, one that comes or goes meanwhile may be there or not. A time to
live counts from when its line was written. FILE appears when it is complete. Lines come in no
order; with --parallel 1, in the order of their slots.";

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The file; - is standard output
    file: PathBuf,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// Ranges of slots that are walked at once
    #[arg(long, value_name = "RANGES", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// How long to go on trying while no key arrives
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: ExportArgs, output: Output) -> Result<Exit, Failure> {
    let prefix = args
        .prefix
        .as_deref()
        .map(|text| args.bytes.decode(text))
        .transpose()?;
    let options = ScanOptions {
        prefix: prefix.unwrap_or_default(),
        consistency: args.read.consistency.clone(),
        ..ScanOptions::default()
    };
    let client = args.router.connect().await?;
    let mut target = Target::open(&args.file)?;
    let is_stdout = matches!(target, Target::Stdout(_));
    let parallel = usize::from(args.parallel);
    let ranges = Ranges::over(&options.prefix, parallel);
    let mut progress = Progress::new(ranges.slots());
    // Each walk may be one chunk ahead of the writer.
    let (chunks, mut walked) = mpsc::channel(parallel);
    let mut walkers = JoinSet::new();
    for _ in 0..parallel {
        let walker = Walker {
            client: client.clone(),
            options: options.clone(),
            patience: args.patience,
            ranges: ranges.clone(),
            chunks: chunks.clone(),
        };
        walkers.spawn(walker.run());
    }
    drop(chunks);
    // The first failure ends the other walks, too.
    while let Some(chunk) = walked.recv().await {
        let chunk = chunk?;
        target.write(&chunk.lines)?;
        progress.count(&chunk);
    }
    walkers.join_all().await;
    assert_eq!(progress.slots, ranges.slots(), "every slot was walked");
    target.finish()?;
    progress.bar.finish_and_clear();
    if output.is_json() {
        let summary = json!({
            "exported": progress.keys,
            "bytes": progress.bytes,
            "seconds": progress.started.elapsed().as_secs_f64(),
        });
        // Standard output has the lines, if they went there.
        match is_stdout {
            true => output.error_json(&summary),
            false => output.json(&summary)?,
        }
    } else {
        output.note(&format!("exported {}", progress.rate()));
    }
    Ok(Exit::Done)
}

/// How far all walks are together.
struct Progress {
    bar: ProgressBar,
    started: Instant,
    keys: u64,
    bytes: u64,
    slots: u64,
}

impl Progress {
    fn new(slots: u64) -> Self {
        // How far the walk of a single slot is, nobody knows.
        let (bar, template) = match slots {
            1 => (ProgressBar::new_spinner(), "{spinner} {msg}"),
            _ => (
                ProgressBar::new(slots),
                "{wide_bar} {percent:>3}%  {msg}  ETA {eta}",
            ),
        };
        bar.enable_steady_tick(TICK);
        Self {
            bar: match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            },
            started: Instant::now(),
            keys: 0,
            bytes: 0,
            slots: 0,
        }
    }

    fn count(&mut self, chunk: &Chunk) {
        self.keys += chunk.keys;
        self.bytes += chunk.lines.len() as u64;
        self.slots += chunk.slots;
        self.bar.set_position(self.slots);
        self.bar.set_message(self.rate());
    }

    fn rate(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let per_second = human::count((self.keys as f64 / seconds) as u64);
        format!(
            "{}, {}, {per_second} keys/s",
            human::plural(self.keys, "key"),
            human::bytes(self.bytes)
        )
    }
}
