//! Reading lines and dealing them out into batches.

use std::{
    collections::HashSet,
    io::{BufReader, Read},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::report::{Event, Outcome};
use crate::ndjson::{self, LINE_BYTES_MAX, Record};

/// Keys in one batch: a quarter of the router's limit, so that batches of several tasks mix.
const BATCH_KEYS_MAX: usize = 256;

/// Bytes of keys and values in one batch, unless a single value is larger.
const BATCH_BYTES_MAX: usize = 1 << 20;

const BUFFER_BYTES: usize = 1 << 20;

/// A line to store.
#[derive(Debug)]
pub(super) struct Item {
    /// Counted from 1.
    pub(super) line: u64,
    pub(super) record: Record,
}

/// Lines to store at once. No key is in it twice.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Bytes of the lines in the input.
    pub(super) input_bytes: u64,
    keys: HashSet<Bytes>,
    bytes: usize,
}

/// The thread that reads.
pub(super) struct Reader {
    queues: Vec<mpsc::Sender<Batch>>,
    open: Vec<Batch>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    /// Whether input may pause: then what was read goes out before the next read.
    eager: bool,
}

/// What is said of lines that the end of the import comes before.
pub(super) const NOT_SENT: &str = "not sent: the import was stopped";

/// Nobody takes batches or events any more.
struct Closed;

impl Reader {
    pub(super) fn new(
        queues: Vec<mpsc::Sender<Batch>>,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
        eager: bool,
    ) -> Self {
        let open = queues.iter().map(|_| Batch::default()).collect();
        Self {
            queues,
            open,
            events,
            stop,
            eager,
        }
    }

    pub(super) fn run(mut self, input: impl Read) {
        if self
            .read(BufReader::with_capacity(BUFFER_BYTES, input))
            .is_ok()
        {
            return;
        }
        // Whoever closed the queues has told why. What was not dealt out is told here.
        let items = self.open.iter().flat_map(|batch| &batch.items);
        let mut lines: Vec<u64> = items.map(|item| item.line).collect();
        lines.sort_unstable();
        if !lines.is_empty() {
            let _ = self.tell(Event::Failed {
                lines,
                outcome: Outcome::NotApplied,
                error: NOT_SENT.to_owned(),
            });
        }
    }

    fn read(&mut self, mut input: BufReader<impl Read>) -> Result<(), Closed> {
        let mut text = Vec::new();
        let mut line = 0;
        while !self.stop.is_cancelled() {
            if self.eager && input.buffer().is_empty() {
                self.flush()?;
            }
            text.clear();
            let bytes = match ndjson::read_line(&mut input, &mut text, LINE_BYTES_MAX) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) => {
                    self.tell(Event::Stopped(format!(
                        "cannot read behind line {line}: {error}"
                    )))?;
                    break;
                }
            };
            line += 1;
            let content = text.trim_ascii();
            if content.is_empty() {
                continue;
            }
            let record = if bytes > LINE_BYTES_MAX as u64 {
                Err(format!(
                    "{bytes} bytes are more than any line needs ({LINE_BYTES_MAX})"
                ))
            } else {
                ndjson::parse(content)
            };
            match record {
                Ok(record) => self.deal(Item { line, record }, bytes)?,
                Err(error) => {
                    self.tell(Event::Failed {
                        lines: vec![line],
                        outcome: Outcome::Bad,
                        error,
                    })?;
                    self.tell(Event::Read(bytes))?;
                }
            }
        }
        self.flush()
    }

    /// Lines of one key always go the same way, so that they keep their order.
    fn deal(&mut self, item: Item, input_bytes: u64) -> Result<(), Closed> {
        let part = usize::from(item.record.key.slot().0) % self.queues.len();
        let size = item.record.key.bytes().len() + item.record.value.len();
        let mut sent = Ok(());
        if !self.open[part].has_room(&item, size) {
            sent = self.send(part);
        }
        let batch = &mut self.open[part];
        batch.keys.insert(item.record.key.bytes().clone());
        batch.bytes += size;
        batch.input_bytes += input_bytes;
        batch.items.push(item);
        sent
    }

    fn flush(&mut self) -> Result<(), Closed> {
        (0..self.queues.len()).try_for_each(|part| self.send(part))
    }

    fn send(&mut self, part: usize) -> Result<(), Closed> {
        let batch = std::mem::take(&mut self.open[part]);
        if batch.items.is_empty() {
            return Ok(());
        }
        self.queues[part].blocking_send(batch).map_err(|returned| {
            self.open[part] = returned.0;
            Closed
        })
    }

    fn tell(&self, event: Event) -> Result<(), Closed> {
        self.events.blocking_send(event).map_err(|_| Closed)
    }
}

impl Batch {
    fn has_room(&self, item: &Item, size: usize) -> bool {
        self.items.is_empty()
            || (self.items.len() < BATCH_KEYS_MAX
                && self.bytes + size <= BATCH_BYTES_MAX
                // A retry of the first could undo the second.
                && !self.keys.contains(item.record.key.bytes()))
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
