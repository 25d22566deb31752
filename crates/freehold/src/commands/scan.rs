//! `freehold scan`.

use std::{ffi::OsString, time::Duration};

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;
use freehold_client::{Client, Entry, ScanOptions};
use freehold_core::Key;
use serde_json::json;

use crate::{
    args::{BytesArgs, ReadArgs, RouterArgs},
    exit::{Exit, Failure},
    ndjson,
    output::{Output, bytes::Encoding, dim, human, table},
    walk::Walk,
};

const EXAMPLES: &str = "\
Examples:
  freehold scan --prefix user:
  freehold scan --limit 10
  freehold scan --prefix '{user:1}' --json     one slot is read: every key has the same tag

Keys come in the order of their slots, not of the alphabet. With --json each line is what
`freehold import` reads; where --limit or an error ended the scan, a last line has the page token (behind
an error, keys that were shown may come once more).";

/// Rows of one page; the router's own limit.
const PAGE_ROWS: u64 = 1_000;

/// Characters of a value in a table on a terminal.
const VALUE_CHARS: usize = 80;

/// A scan that gets no further for so long gives up.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScanArgs {
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// End after so many keys
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where a scan ended, by --limit or an error; it names the token
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
    /// Show keys alone
    #[arg(long)]
    keys_only: bool,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: ScanArgs, output: Output) -> Result<Exit, Failure> {
    output.refuse_json_with(args.keys_only, "--keys-only")?;
    let mut options = ScanOptions {
        prefix: args
            .prefix
            .as_deref()
            .map(|text| args.bytes.decode(text))
            .transpose()?
            .unwrap_or_default(),
        page_token: args
            .page_token
            .as_deref()
            .map(decode_token)
            .transpose()?
            .unwrap_or_default(),
        slots: None,
        rows_max: 0,
        consistency: args.read.consistency.clone(),
    };
    let client = args.router.connect().await?;
    let mut page = Page::new(&args, output);
    let mut left = args.limit;
    loop {
        options.rows_max = left.map_or(0, |left| u32::try_from(left.min(PAGE_ROWS)).unwrap_or(0));
        let (seen, page_token, ended) = walk(&client, &options, &mut page).await;
        left = left.map(|left| left.saturating_sub(seen));
        options.page_token = page_token;
        if let Err(failure) = ended {
            // What came is shown all the same, with the place to go on from.
            page.finish(&options.page_token)?;
            return Err(failure);
        }
        if options.page_token.is_empty() || left.is_none_or(|left| left == 0) {
            break;
        }
    }
    page.finish(&options.page_token)?;
    Ok(Exit::Done)
}

async fn walk(
    client: &Client,
    options: &ScanOptions,
    page: &mut Page,
) -> (u64, Bytes, Result<(), Failure>) {
    let mut walk = Walk::new(client.clone(), options.clone(), PATIENCE);
    let mut seen = 0;
    let ended = async {
        while let Some((key, entry)) = walk.next().await? {
            page.row(&key, &entry)?;
            seen += 1;
        }
        Ok(())
    };
    let ended = ended.await;
    (seen, walk.page_token().clone(), ended)
}

fn decode_token(token: &str) -> Result<Bytes, Failure> {
    let decoded = BASE64.decode(token.as_bytes());
    decoded
        .map(Bytes::from)
        .map_err(|error| Failure::Usage(format!("--page-token: {error}")))
}

/// Rows on their way to the reader: tables on a terminal, lines elsewhere.
struct Page {
    output: Output,
    encoding: Encoding,
    keys_only: bool,
    terminal: bool,
    rows: Vec<[String; 3]>,
    seen: u64,
}

impl Page {
    fn new(args: &ScanArgs, output: Output) -> Self {
        Self {
            output,
            encoding: args.bytes.encoding(),
            keys_only: args.keys_only,
            terminal: console::user_attended(),
            rows: Vec::new(),
            seen: 0,
        }
    }

    fn row(&mut self, key: &Key, entry: &Entry) -> Result<(), Failure> {
        self.seen += 1;
        if self.output.is_json() {
            let mut line = Vec::new();
            ndjson::write(key.bytes(), &entry.value, entry.ttl, &mut line)
                .map_err(|error| Failure::io("cannot write a line", error))?;
            return self.output.bytes(&line);
        }
        let shown = self.encoding.encode_line(key.bytes());
        if self.keys_only {
            return self.output.line(&shown);
        }
        let ttl = entry.ttl.map(human::duration).unwrap_or_default();
        if !self.terminal {
            let value = self.encoding.encode_line(&entry.value);
            return self.output.line(&format!("{shown}\t{ttl}\t{value}"));
        }
        self.rows
            .push([shown.into_owned(), ttl, self.cut(&entry.value)]);
        if self.rows.len() as u64 == PAGE_ROWS {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// As much of a value as a table has room for.
    fn cut(&self, value: &[u8]) -> String {
        // A character has 4 bytes at most, and what is cut in the middle is behind the ellipsis.
        let head = &value[..value.len().min(VALUE_CHARS * 4)];
        let shown = self.encoding.encode_line(head);
        if shown.chars().count() <= VALUE_CHARS && head.len() == value.len() {
            return shown.into_owned();
        }
        let cut: String = shown.chars().take(VALUE_CHARS).collect();
        format!("{cut}… {}", human::bytes(value.len() as u64))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let mut page = table::table(&["KEY", "TTL", "VALUE"]);
        self.rows.drain(..).for_each(|row| {
            page.add_row(row);
        });
        self.output.line(&table::render(&page))
    }

    fn finish(mut self, page_token: &[u8]) -> Result<(), Failure> {
        let more = (!page_token.is_empty()).then(|| BASE64.encode(page_token));
        if self.output.is_json() {
            return match more {
                Some(token) => self.output.json(&json!({ "page_token": token })),
                None => Ok(()),
            };
        }
        if !self.rows.is_empty() {
            self.flush()?;
        }
        if self.terminal {
            self.output.line(&dim(&human::plural(self.seen, "key")))?;
        }
        if let Some(token) = more {
            self.output
                .note(&format!("there may be more: --page-token {token}"));
        }
        Ok(())
    }
}
