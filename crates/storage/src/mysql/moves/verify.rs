//! Checksums that both servers make for themselves, so that verifying moves no values.

use freehold_core::Key;

use super::{
    super::{
        decode::column,
        error::unexpected,
        session::{Session, query},
        statements::DIGEST,
    },
    proof,
    rows::key,
};
use crate::{
    error::StorageError,
    moves::{Checksum, Stretch},
};

pub(super) async fn checksum(
    session: &mut Session,
    stretch: &Stretch,
    now_ms: i64,
    rows_max: usize,
) -> Result<Checksum, StorageError> {
    let picked = proof::stretch(stretch);
    let live = format!("s.expires_at > {now_ms}");
    let statement = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM(p.live), 0) AS UNSIGNED), \
         CAST(COALESCE(SUM(p.bytes), 0) AS UNSIGNED), \
         BIT_XOR(CAST(CONV(p.digest, 16, 10) AS UNSIGNED)), \
         MAX(CONCAT(UNHEX(LPAD(HEX(p.slot), 4, '0')), p.`key`)) \
         FROM (SELECT s.slot, s.`key`, {live} AS live, IF({live}, LENGTH(s.value), 0) AS bytes, \
         IF({live}, {DIGEST}, '0') AS digest FROM store s FORCE INDEX (PRIMARY) WHERE {picked} \
         ORDER BY s.slot, s.`key` LIMIT {rows_max}) p"
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let row = answer.rows.into_iter().next();
    let mut row = row.ok_or_else(|| unexpected("a checksum"))?;
    let seen: u64 = column(&mut row, 0, "how many rows there are")?;
    let last: Option<Vec<u8>> = column(&mut row, 4, "the last row")?;
    let last = last.filter(|_| seen >= rows_max as u64);
    // Two bytes of it are the slot, by which it was found to be the last.
    let last = last.map(|last| Key::new(last.get(2..).unwrap_or_default().to_vec()));
    Ok(Checksum {
        rows: column(&mut row, 1, "how many rows are live")?,
        bytes: column(&mut row, 2, "how long values are")?,
        digest: column(&mut row, 3, "a checksum")?,
        more_behind: last.transpose().map_err(|_| unexpected("a key"))?,
    })
}

/// The digests of the rows that this condition picks.
pub(super) async fn digests(
    session: &mut Session,
    picked: &str,
    now_ms: i64,
) -> Result<Vec<(Key, u64)>, StorageError> {
    let statement = format!(
        "SELECT s.slot, s.`key`, CAST(CONV({DIGEST}, 16, 10) AS UNSIGNED) \
         FROM store s FORCE INDEX (PRIMARY) WHERE {picked} AND s.expires_at > {now_ms} \
         ORDER BY s.slot, s.`key`"
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let digests = answer.rows.into_iter();
    digests
        .map(|mut row| Ok((key(&mut row, 0)?, column(&mut row, 2, "a digest")?)))
        .collect()
}
