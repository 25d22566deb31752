//! A server that shows the fence it was asked for and yet proves nothing, because it is closed.

use freehold_core::Fence;

use super::{
    error::refused,
    session::{Session, query},
    statements::fence_shows,
};
use crate::error::{Refusal, StorageError};

/// What both servers say of a write where `read_only` is on.
const OPTION_PREVENTS_STATEMENT: u16 = 1290;

/// Fails if the fence would let this through, were the server not closed for writing. To be asked
/// where nothing came under a fence: a map that is loaded again would show the same one.
pub(super) async fn refuse_if_closed(
    session: &mut Session,
    fence: &Fence,
) -> Result<(), StorageError> {
    let shows = fence_shows(fence.stamp, fence.server_id);
    let text = format!("SELECT 1 FROM shard f WHERE {shows} AND @@read_only <> 0");
    let answer = query(&mut session.conn, text).await;
    let rows = answer.map_err(|failure| failure.of_read())?.rows;
    if rows.is_empty() {
        return Ok(());
    }
    Err(refused(
        Refusal::ReadOnly,
        OPTION_PREVENTS_STATEMENT,
        "the server is read_only: another one may lead by now, and what this one answers may be old",
    ))
}
