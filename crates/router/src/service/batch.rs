//! Methods on many keys: all items at once, each with its own ending, in order.

use std::sync::Arc;

use freehold_core::{
    Key,
    limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, RESPONSE_BYTES_MAX},
};
use freehold_proto::v1::{self, batch_get_result, batch_write_result, write};
use prost::Message;
use tokio::time::Instant;

use super::encode;
use crate::{
    budget::Held,
    calls::Calls,
    failure::Failure,
    request::{Ending, Level, Operation},
    status, validate,
};

/// Reads many keys; what does not fit the response is to be asked for again.
pub(super) async fn get(
    calls: &Calls,
    request: v1::BatchGetRequest,
    deadline: Instant,
) -> Result<(v1::BatchGetResponse, Vec<Arc<Held>>), Failure> {
    let level = validate::level(request.read.as_ref())?;
    check_items("keys", request.keys.len())?;
    let operations = request
        .keys
        .into_iter()
        .map(|key| Ok(Operation::Get(Key::new(key)?)))
        .collect();
    let endings = calls.ask_all(operations, level, deadline).await;
    let mut response = Filling {
        bytes_left: RESPONSE_BYTES_MAX,
        rooms: Vec::new(),
    };
    let results = endings
        .into_iter()
        .map(|ending| response.result(ending))
        .collect();
    Ok((v1::BatchGetResponse { results }, response.rooms))
}

/// A response that is being made.
struct Filling {
    bytes_left: usize,
    /// What the values in it take of the router's room.
    rooms: Vec<Arc<Held>>,
}

impl Filling {
    /// One result, if it still fits. The first value fits whatever its size.
    fn result(&mut self, ending: Ending) -> v1::BatchGetResult {
        let result = match self.fit(ending) {
            Ok(response) => batch_get_result::Result::Get(response),
            Err(failure) => batch_get_result::Result::Error(status::to_item(&failure)),
        };
        v1::BatchGetResult {
            result: Some(result),
        }
    }

    fn fit(&mut self, ending: Ending) -> Result<v1::GetResponse, Failure> {
        let (response, room) = encode::get_with_room(ending)?;
        let bytes = response.encoded_len();
        if bytes > self.bytes_left && !self.rooms.is_empty() {
            return Err(Failure::AskAgain);
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.rooms.extend(room);
        Ok(response)
    }
}

/// Writes many keys.
pub(super) async fn write(
    calls: &Calls,
    request: v1::BatchWriteRequest,
    deadline: Instant,
) -> Result<v1::BatchWriteResponse, Failure> {
    check_items("writes", request.writes.len())?;
    let bytes: usize = request.writes.iter().map(write_bytes).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Failure::invalid(
            "writes",
            format!("writes hold {bytes} bytes: at most {BATCH_BYTES_MAX} are allowed"),
        ));
    }
    let mut are_puts = Vec::with_capacity(request.writes.len());
    let mut operations = Vec::with_capacity(request.writes.len());
    for write in request.writes {
        are_puts.push(!matches!(write.write, Some(write::Write::Delete(_))));
        operations.push(operation(calls, write));
    }
    let endings = calls.ask_all(operations, Level::Strong, deadline).await;
    let results = endings
        .into_iter()
        .zip(are_puts)
        .map(write_result)
        .collect();
    Ok(v1::BatchWriteResponse { results })
}

fn operation(calls: &Calls, write: v1::Write) -> Result<Operation, Failure> {
    match write.write {
        Some(write::Write::Put(put)) => calls.validator.put(put, calls.versions.next()),
        Some(write::Write::Delete(delete)) => validate::delete(delete.key),
        None => Err(Failure::invalid(
            "writes",
            "a write is neither a put nor a delete",
        )),
    }
}

fn write_bytes(write: &v1::Write) -> usize {
    match &write.write {
        Some(write::Write::Put(put)) => put.key.len() + put.value.len(),
        Some(write::Write::Delete(delete)) => delete.key.len(),
        None => 0,
    }
}

fn write_result((ending, is_put): (Ending, bool)) -> v1::BatchWriteResult {
    let result = if is_put {
        encode::put(ending).map(batch_write_result::Result::Put)
    } else {
        encode::delete(ending).map(batch_write_result::Result::Delete)
    };
    let result = result
        .unwrap_or_else(|failure| batch_write_result::Result::Error(status::to_item(&failure)));
    v1::BatchWriteResult {
        result: Some(result),
    }
}

fn check_items(field: &'static str, count: usize) -> Result<(), Failure> {
    match count {
        1..=BATCH_ITEMS_MAX => Ok(()),
        _ => Err(Failure::invalid(
            field,
            format!("{field} has {count} items: 1 to {BATCH_ITEMS_MAX} are allowed"),
        )),
    }
}
