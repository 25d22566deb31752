//! What a server is and how it is set, for `init` and `doctor`.

use std::{collections::BTreeMap, time::SystemTime};

use mysql_async::Row as SqlRow;
use tokio::time::Instant;

use super::{
    decode::{column, text},
    session::{Answer, Session, query},
};
use crate::{
    error::StorageError,
    schema::{FACT_VARIABLES, ServerFacts},
};

/// `VARBINARY` has no collation in the server's words; it compares bytes.
const KEY_COLLATION: &str = "SELECT COALESCE(collation_name, 'binary') \
    FROM information_schema.columns WHERE table_schema = DATABASE() \
    AND table_name = 'store' AND column_name = 'key'";

pub(super) async fn facts(session: &mut Session) -> Result<ServerFacts, StorageError> {
    let (clock_skew_ms, clock_error_ms) = clock_skew(session).await?;
    let identity = ask(session, "SELECT VERSION(), @@server_id".to_owned()).await?;
    let mut identity = one(identity, "the server's version")?;
    let version = text(&mut identity, 0, "the server's version")?;
    let names = FACT_VARIABLES.map(|name| format!("'{name}'")).join(",");
    let variables = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let variables = ask(session, variables).await?;
    let variables: Result<BTreeMap<_, _>, StorageError> = variables
        .rows
        .into_iter()
        .map(|mut row| {
            let name = text(&mut row, 0, "a variable's name")?;
            Ok((name, text(&mut row, 1, "a variable's value")?))
        })
        .collect();
    let grants = ask(session, "SHOW GRANTS".to_owned()).await?;
    let grants = grants.rows.into_iter().map(|mut row| {
        let grant = text(&mut row, 0, "a grant")?;
        Ok::<_, StorageError>(without_hash(&grant))
    });
    let grants = grants.collect::<Result<_, _>>()?;
    let collation = ask(session, KEY_COLLATION.to_owned()).await?;
    let collation = collation.rows.into_iter().next();
    Ok(ServerFacts {
        engine: engine(&version).to_owned(),
        server_id: column(&mut identity, 1, "the server's id")?,
        version,
        clock_skew_ms,
        clock_error_ms,
        variables: variables?,
        grants,
        key_collation: collation
            .map(|mut row| text(&mut row, 0, "a collation"))
            .transpose()?,
    })
}

fn engine(version: &str) -> &'static str {
    if version.contains("MariaDB") {
        "MariaDB"
    } else {
        "MySQL"
    }
}

/// The server's clock minus ours, taken at the middle of the round trip, and half of that as the
/// error.
async fn clock_skew(session: &mut Session) -> Result<(i64, u64), StorageError> {
    let began = Instant::now();
    let ours_ms = our_clock_ms();
    let clock = "SELECT CAST(ROUND(UNIX_TIMESTAMP(SYSDATE(6)) * 1000) AS SIGNED)";
    let mut clock = one(ask(session, clock.to_owned()).await?, "the clock")?;
    let half_ms = u64::try_from(began.elapsed().as_millis() / 2).unwrap_or(u64::MAX);
    let theirs_ms: i64 = column(&mut clock, 0, "the clock")?;
    let ours_ms = ours_ms.saturating_add_unsigned(half_ms);
    // The rounding of both clocks to milliseconds is one more.
    Ok((theirs_ms.saturating_sub(ours_ms), half_ms + 1))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one question in which this machine's clock is the subject"
)]
fn our_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    i64::try_from(ms).unwrap_or(i64::MAX)
}

async fn ask(session: &mut Session, statement: String) -> Result<Answer, StorageError> {
    let answer = query(&mut session.conn, statement).await;
    answer.map_err(|failure| failure.of_read())
}

fn one(answer: Answer, what: &str) -> Result<SqlRow, StorageError> {
    let row = answer.rows.into_iter().next();
    row.ok_or_else(|| super::error::unexpected(what))
}

/// A grant without how its account is identified: MariaDB prints the password's hash there.
fn without_hash(grant: &str) -> String {
    let Some((before, identified)) = grant.split_once(" IDENTIFIED ") else {
        return grant.to_owned();
    };
    // Words of the grant that stand behind it are kept; a hash holds no spaces.
    let rest = [" REQUIRE ", " WITH "]
        .iter()
        .filter_map(|word| identified.find(word))
        .min();
    format!("{before}{}", rest.map_or("", |at| &identified[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_show_no_hash() {
        let usage = "GRANT USAGE ON *.* TO `f`@`%`";
        for (grant, shown) in [
            (usage.to_owned(), usage.to_owned()),
            (
                format!("{usage} IDENTIFIED BY PASSWORD '*4ACF'"),
                usage.to_owned(),
            ),
            (
                format!("{usage} IDENTIFIED VIA ed25519 USING 'WITH' WITH GRANT OPTION"),
                format!("{usage} WITH GRANT OPTION"),
            ),
            (
                format!("{usage} IDENTIFIED BY PASSWORD '*4ACF' REQUIRE SSL WITH GRANT OPTION"),
                format!("{usage} REQUIRE SSL WITH GRANT OPTION"),
            ),
        ] {
            assert_eq!(without_hash(&grant), shown);
        }
    }
}
