//! `freehold import`.
//!
//! One thread reads and checks lines ([`reader`]) and deals them out by key into batches, so that
//! two lines of one key never overtake each other. Each of a few tasks writes its batches one after
//! another ([`writer`]), and what came of each line is counted and told here ([`report`]). All
//! queues between them are bounded: a slow cluster slows the reading down.

mod reader;
mod report;
mod writer;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    report::{Event, Report},
    writer::Writer,
};
use crate::{
    args::RouterArgs,
    duration::parse_duration,
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold import users.ndjson
  zcat everything.ndjson.gz | freehold import -

Each line is {\"key\": \"user:1\", \"value\": \"Ada\"}, with \"ttl\" as seconds (30, 29.999) or as text
(\"30s\") where the key is not to live for ever. Bytes that are not UTF-8 go into \"key_base64\" and
\"value_base64\". Of two lines of one key the later one is stored.

Every line that could not be stored is named by its number, and the import goes on. Lines that were
certainly not applied are tried again until --patience is over. Lines whose outcome is unknown are
not: a repeat could undo what somebody else wrote in between. Where nobody else writes these keys,
running the import again is the way out.";

/// How long the reader may take to say what it did not deal out.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportArgs {
    /// The file; - is standard input
    file: PathBuf,
    /// Batches that are under way at once
    #[arg(long, value_name = "BATCHES", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// How long to go on trying what was not applied
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    patience: Duration,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: ImportArgs, output: Output) -> Result<Exit, Failure> {
    let (input, bytes) = open(&args.file)?;
    let client = args.router.connect().await?;
    let parts = usize::from(args.parallel);
    // Events are told as fast as a terminal takes them.
    let (events, mut happened) = mpsc::channel::<Event>(256);
    let stop = CancellationToken::new();
    let mut queues = Vec::with_capacity(parts);
    let mut writers = JoinSet::new();
    for _ in 0..parts {
        // One batch waits while one is under way.
        let (queue, batches) = mpsc::channel(1);
        let writer = Writer::new(client.clone(), args.patience, events.clone(), stop.clone());
        writers.spawn(writer.run(batches));
        queues.push(queue);
    }
    // A thread of its own: a read from a terminal or pipe that never ends must not keep the
    // process from ending.
    let reader = reader::Reader::new(queues, events, stop.clone(), bytes.is_none());
    std::thread::spawn(move || reader.run(input));

    let mut report = Report::new(output, progress_bar(bytes), Instant::now());
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| Failure::io("cannot wait for signals", error))?;
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            biased;
            event = happened.recv() => match event {
                Some(event) => report.take(event),
                None => break,
            },
            _ = interrupts.recv() => {
                if std::mem::replace(&mut is_interrupted, true) {
                    // What is under way may be stored or not.
                    return Ok(Exit::Unknown);
                }
                report.take(Event::Stopped("interrupted".to_owned()));
                stop.cancel();
            }
            () = are_over(&mut writers), if stop.is_cancelled() => break,
        }
    }
    report.finish()
}

/// Waits until nobody writes any more, and for what the reader has to say then, if it does not wait for
/// input itself.
async fn are_over(writers: &mut JoinSet<()>) {
    while writers.join_next().await.is_some() {}
    sleep(LAST_WORDS).await;
}

/// The input, and its length if it has one.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let cannot = |error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {percent:>3}%  {bytes} of {total_bytes}  {msg}  ETA {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
