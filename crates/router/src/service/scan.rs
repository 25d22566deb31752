//! A walk over live keys, in (slot, key) order, one bounded stretch at a time.
//!
//! Each stretch is of one shard, and is read under the fence that the map shows; where the map
//! changed meanwhile the stretch is cut anew. Memory on both sides is one stretch.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use freehold_core::{
    Key, Route, ShardId, Slot,
    limits::{RESPONSE_BYTES_MAX, SCAN_SLOTS_MAX},
};
use freehold_proto::v1;
use freehold_storage::{Columns, Row, ScanRange, Value};
use futures::{Stream, stream};
use prost::Message;
use tokio::time::Instant;
use tonic::Request;

use super::{ResponseStream, encode};
use crate::{
    budget::Held,
    calls::Calls,
    failure::Failure,
    page_token::{Place, Scope},
    request::{Answer, Level, Operation},
    status,
    validate::{self, Scan},
};

/// Rows of one stretch: with the byte budget they share, values up to 12 KiB come at once.
const STRETCH_ROWS_MAX: usize = 256;

/// How often a stretch is cut anew because the map changed under it.
const MOVED_MAX: usize = 100;

/// Checks a request and starts the walk.
pub(super) fn start(
    calls: &Arc<Calls>,
    request: Request<v1::ScanRequest>,
) -> Result<ResponseStream<v1::ScanResponse>, Failure> {
    let deadline = Calls::stream_deadline(request.metadata());
    let walk = Walk::new(calls.clone(), request.into_inner(), deadline)?;
    Ok(Box::pin(walk.stream()))
}

/// Where a walk is.
struct Walk {
    calls: Arc<Calls>,
    scope: Scope,
    level: Level,
    /// The next place to read; `None` when all was read.
    place: Option<Place>,
    /// The slots of the scope.
    slots: RangeInclusive<Slot>,
    /// Rows that may still be sent; `None` has no bound.
    rows_left: Option<usize>,
    deadline: Option<Instant>,
    ended: bool,
    /// What the stretch that is being sent takes of the router's room.
    rooms: Vec<Arc<Held>>,
}

impl Walk {
    fn new(
        calls: Arc<Calls>,
        request: v1::ScanRequest,
        deadline: Option<Instant>,
    ) -> Result<Self, Failure> {
        let Scan {
            scope,
            level,
            place,
            rows_max,
        } = validate::scan(request)?;
        let slots = scope.slots();
        Ok(Self {
            level,
            rows_left: rows_max,
            place,
            calls,
            scope,
            slots,
            deadline,
            ended: false,
            rooms: Vec::new(),
        })
    }

    /// Responses, one stretch in memory at a time.
    fn stream(self) -> impl Stream<Item = Result<v1::ScanResponse, tonic::Status>> {
        let pages = stream::unfold(self, |mut walk| async move {
            let messages = walk.advance().await?;
            Some((stream::iter(messages), walk))
        });
        futures::StreamExt::flatten(pages)
    }

    /// The messages of the next stretch; `None` after the last message.
    async fn advance(&mut self) -> Option<Vec<Result<v1::ScanResponse, tonic::Status>>> {
        // The stretch before is the connection's now.
        self.rooms.clear();
        if self.ended {
            return None;
        }
        let Some(place) = self.place.clone().filter(|_| self.rows_left != Some(0)) else {
            self.ended = true;
            let token = self.place.as_ref().map(|place| place.to_token(&self.scope));
            return Some(vec![Ok(message_without_row(token.unwrap_or_default()))]);
        };
        match self.stretch(place).await {
            Ok(messages) => Some(messages.into_iter().map(Ok).collect()),
            Err(failure) => {
                self.ended = true;
                Some(vec![Err(status::to_status(&failure))])
            }
        }
    }

    /// Reads one stretch and moves on behind it.
    async fn stretch(&mut self, place: Place) -> Result<Vec<v1::ScanResponse>, Failure> {
        let rows_max = self.rows_left.unwrap_or(usize::MAX).min(STRETCH_ROWS_MAX);
        let (slots, page) = self.read(&place, rows_max).await?;
        let mut messages = Vec::with_capacity(page.rows.len());
        let (mut last, mut bytes, mut complete) = (None, 0, page.complete);
        for (key, row) in page.rows {
            // Values too large for the statement's budget come one by one: the others wait for
            // the next stretch rather than in memory.
            if bytes >= RESPONSE_BYTES_MAX {
                complete = false;
                break;
            }
            let Some(row) = self.whole(&key, row).await? else {
                continue;
            };
            last = Some(Place {
                slot: key.slot(),
                after: Some(key.bytes().clone()),
            });
            let message = v1::ScanResponse {
                key: key.bytes().clone(),
                entry: Some(encode::entry(row)?),
                page_token: Bytes::new(),
            };
            bytes += message.encoded_len();
            messages.push(message);
        }
        if let Some(left) = &mut self.rows_left {
            *left = left.saturating_sub(messages.len());
        }
        self.place = if complete {
            self.behind(&slots)
        } else {
            last.or(Some(place))
        };
        // A place to go on from after each stretch, so that a broken stream loses no work, and whoever
        // waits sees that it goes on.
        if let Some(place) = &self.place {
            let token = place.to_token(&self.scope);
            match messages.last_mut() {
                Some(message) => message.page_token = token,
                None => messages.push(message_without_row(token)),
            }
        }
        Ok(messages)
    }

    /// The first rows behind `place`, and the slots that were looked at.
    async fn read(
        &mut self,
        place: &Place,
        rows_max: usize,
    ) -> Result<(Vec<Slot>, freehold_storage::ScanPage), Failure> {
        for _ in 0..MOVED_MAX {
            let slots = self.slots_from(place.slot)?;
            let range = ScanRange {
                slots: slots.clone(),
                prefix: self.scope.prefix.clone(),
                after: place.after.clone(),
                rows_max,
                columns: Columns::Value {
                    bytes_max: RESPONSE_BYTES_MAX / rows_max.max(1),
                },
            };
            match self.ask(Operation::Scan(range)).await {
                Ok(Answer::Page(page, _)) => return Ok((slots, page)),
                Ok(other) => unreachable!("a scan is answered with a page: {other:?}"),
                Err(Failure::Moved(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Unavailable {
            shard: "".into(),
            reason: format!("slot {} kept changing hands", place.slot).into(),
        })
    }

    /// Slots of one shard from `first` on, as many as one statement looks at.
    fn slots_from(&self, first: Slot) -> Result<Vec<Slot>, Failure> {
        let map = self.calls.shards.map.load();
        let owner = |slot| match map.route(slot) {
            Route::Owner { shard, .. } => Ok(shard),
            _ => map.heir(slot).ok_or(slot),
        };
        let shard: ShardId = owner(first).map_err(|slot| self.calls.shards.unserved(&map, slot))?;
        let slots = (first.0..=self.slots.end().0)
            .take(SCAN_SLOTS_MAX)
            .map(Slot)
            .take_while(|slot| owner(*slot) == Ok(shard))
            .collect();
        Ok(slots)
    }

    /// The row with its value: one that was too large for the stretch is read by itself. `None` if
    /// it is gone by now.
    async fn whole(&mut self, key: &Key, row: Row) -> Result<Option<Row>, Failure> {
        if !matches!(row.value, Value::TooLarge { .. }) {
            return Ok(Some(row));
        }
        match self.ask(Operation::Get(key.clone())).await? {
            Answer::Read(answer) => Ok(answer.row),
            other => unreachable!("a get is answered with a row: {other:?}"),
        }
    }

    async fn ask(&mut self, operation: Operation) -> crate::request::Ending {
        let limit = Instant::now() + self.calls.request_timeout();
        let deadline = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        let mut answer = self
            .calls
            .ask(operation, self.level.clone(), deadline)
            .await?;
        self.rooms.extend(answer.take_room());
        Ok(answer)
    }

    /// The place behind a stretch that was read to its end.
    fn behind(&self, slots: &[Slot]) -> Option<Place> {
        let last = *slots.last()?;
        let next = last.0.checked_add(1).filter(|_| last < *self.slots.end())?;
        Some(Place {
            slot: Slot(next),
            after: None,
        })
    }
}

fn message_without_row(page_token: Bytes) -> v1::ScanResponse {
    v1::ScanResponse {
        key: Bytes::new(),
        entry: None,
        page_token,
    }
}
