//! Methods on many keys: all items at once, each with its own ending, in order.

use std::sync::Arc;

use freehold_core::limits::RESPONSE_BYTES_MAX;
use freehold_proto::v1::{self, batch_get_result, batch_write_result, write};
use prost::Message;
use tokio::time::Instant;

use super::encode;
use crate::{
    budget::Held,
    calls::Calls,
    failure::Failure,
    request::{Ending, Level},
    status, validate,
};

/// Reads many keys; what does not fit the response is to be asked for again.
pub(super) async fn get(
    calls: &Calls,
    request: v1::BatchGetRequest,
    deadline: Instant,
) -> Result<(v1::BatchGetResponse, Vec<Arc<Held>>), Failure> {
    let (operations, level) = validate::batch_get(request)?;
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
    let is_put = |write: &v1::Write| !matches!(write.write, Some(write::Write::Delete(_)));
    let are_puts: Vec<bool> = request.writes.iter().map(is_put).collect();
    let operations = calls
        .validator
        .batch_write(request, || calls.versions.next())?;
    let endings = calls.ask_all(operations, Level::Strong, deadline).await;
    let results = endings
        .into_iter()
        .zip(are_puts)
        .map(write_result)
        .collect();
    Ok(v1::BatchWriteResponse { results })
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
