//! `freehold export`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use freehold_client::ScanOptions;
use freehold_core::{SLOTS, key::whole_tag};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    args::{BytesArgs, ReadArgs, RouterArgs},
    duration::parse_duration,
    exit::{Exit, Failure},
    ndjson,
    output::{Output, human},
    walk::Walk,
};

const EXAMPLES: &str = "\
Examples:
  freehold export everything.ndjson
  freehold export users.ndjson --prefix user:
  freehold export - | gzip > everything.ndjson.gz

Each line is {\"key\": ..., \"value\": ..., \"ttl\": SECONDS}; bytes that are not UTF-8 are in
key_base64 and value_base64. Keys are written one after another, not at one moment: a key that
lives throughout is there once, one that comes or goes meanwhile may be there or not. A time to
live counts from when its line was written. FILE appears when it is complete.";

/// Bytes that are gathered for one write to the file.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The file; - is standard output
    file: PathBuf,
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
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
    let bar = progress_bar(&options.prefix);
    let started = Instant::now();
    let mut target = Target::open(&args.file)?;
    let mut walk = Walk::new(client, options, args.patience);
    let (mut keys, mut bytes) = (0_u64, 0_u64);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES * 2);
    while let Some((key, entry)) = walk.next().await? {
        ndjson::write(key.bytes(), &entry.value, entry.ttl, &mut chunk)
            .map_err(|error| Failure::io("cannot write a line", error))?;
        keys += 1;
        if chunk.len() >= CHUNK_BYTES {
            bytes += target.write(&mut chunk)?;
            bar.set_position(key.slot().index() as u64);
            bar.set_message(rate(keys, bytes, started));
        }
    }
    bytes += target.write(&mut chunk)?;
    target.finish()?;
    bar.finish_and_clear();
    if output.is_json() {
        output.error_json(&json!({
            "exported": keys,
            "bytes": bytes,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    } else {
        output.note(&format!("exported {}", rate(keys, bytes, started)));
    }
    Ok(Exit::Done)
}

/// Keys come in the order of their slots, so the slot says how far the walk is.
fn progress_bar(prefix: &[u8]) -> ProgressBar {
    if whole_tag(prefix).is_some() {
        return ProgressBar::new_spinner();
    }
    let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {msg}  ETA {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(SLOTS as u64).with_style(style)
}

fn rate(keys: u64, bytes: u64, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    let per_second = human::count((keys as f64 / seconds) as u64);
    format!(
        "{}, {}, {per_second} keys/s",
        human::plural(keys, "key"),
        human::bytes(bytes)
    )
}

/// Where lines go. A file has another name until it is complete, so that a broken export is never
/// taken for a whole one.
enum Target {
    Stdout(io::Stdout),
    File {
        file: File,
        partial: PathBuf,
        path: PathBuf,
    },
}

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)
            .map_err(|error| Failure::io(format!("cannot create {}", partial.display()), error))?;
        Ok(Self::File {
            file,
            partial,
            path: path.to_owned(),
        })
    }

    /// Writes the chunk and empties it.
    fn write(&mut self, chunk: &mut Vec<u8>) -> Result<u64, Failure> {
        let written = tokio::task::block_in_place(|| match self {
            Self::Stdout(stdout) => stdout.write_all(chunk).and_then(|()| stdout.flush()),
            Self::File { file, .. } => file.write_all(chunk),
        });
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("cannot write the export", error),
        })?;
        let bytes = chunk.len() as u64;
        chunk.clear();
        Ok(bytes)
    }

    fn finish(self) -> Result<(), Failure> {
        let Self::File {
            file,
            partial,
            path,
        } = self
        else {
            return Ok(());
        };
        file.sync_all()
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| Failure::io(format!("cannot complete {}", path.display()), error))
    }
}
