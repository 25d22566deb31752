//! Heartbeats, positions and the state of replication.
//!
//! **Which position.** What a server *has* is `gtid_executed` on MySQL and `gtid_slave_pos` on a
//! replica of MariaDB. Both servers note a transaction there after the engine has committed it
//! (`MYSQL_BIN_LOG::process_commit_stage_queue` updates the set behind the commits of its queue;
//! MariaDB's `Xid_log_event` updates the state behind the commit), so a statement that begins later
//! finds its rows.
//!
//! What a write's token *asks for* is read on its connection after it ended. MariaDB tells the very
//! transaction, `last_gtid`. Where a write changed nothing, what it saw was committed by others
//! before: `gtid_binlog_pos` has that, because the log is written before the engine commits; of it
//! only the session's own domain counts, which is the one that Freehold's writes are in. MySQL tells
//! a client its own transaction only through CLIENT_SESSION_TRACK, which the driver does not ask
//! for; `gtid_executed` has it, and whatever else was committed by then.

use async_trait::async_trait;
use freehold_core::{Beat, Fence, Position};
use mysql_async::Row as SqlRow;

use super::{
    MysqlConnection,
    claims::{IDENTITY, identity},
    decode::{ShownFence, column, text},
    error::unexpected,
    read::no_fence,
    session::{Answer, Session, query},
    statements::{FENCE, NOW, fence_holds},
};
use crate::{
    error::{Refusal, StorageError},
    watch::{Channel, EndedTerm, Replication, Sight, WatchConnection},
};

/// Rules by which a replica leaves something out, as the columns of its status are called.
const FILTERS: [&str; 10] = [
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
    "Replicate_Rewrite_DB",
    "Replicate_Ignore_Server_Ids",
    "Replicate_Do_Domain_Ids",
    "Replicate_Ignore_Domain_Ids",
];

#[async_trait]
impl WatchConnection for MysqlConnection {
    async fn look(&mut self) -> Result<Sight, StorageError> {
        let mut session = self.take()?;
        let sight = look(&mut session).await;
        self.put_back(session, sight.as_ref().err());
        sight
    }

    async fn beat(&mut self, fence: &Fence, shown: Beat) -> Result<bool, StorageError> {
        let mut session = self.take()?;
        let statement = format!(
            "UPDATE heartbeat SET term = {}, seq = seq + 1, written_at = {NOW} \
             WHERE id = 1 AND term = {} AND seq = {} AND {}",
            fence.term,
            shown.term,
            shown.seq,
            fence_holds(fence)
        );
        let written = query(&mut session.conn, statement).await;
        let written = written.map_err(|failure| failure.of_write_at(0));
        self.put_back(session, written.as_ref().err());
        Ok(written?.affected == 1)
    }

    async fn replication(&mut self) -> Result<Replication, StorageError> {
        let mut session = self.take()?;
        let replication = replication(&mut session).await;
        self.put_back(session, replication.as_ref().err());
        replication
    }

    async fn ended_terms(&mut self) -> Result<Vec<EndedTerm>, StorageError> {
        let mut session = self.take()?;
        let statement = "SELECT term, server_id, position FROM terms ORDER BY term".to_owned();
        let ended = ask(&mut session, statement).await.and_then(|answer| {
            let rows = answer.rows.into_iter();
            rows.map(ended_term).collect::<Result<Vec<_>, _>>()
        });
        self.put_back(session, ended.as_ref().err());
        ended
    }
}

async fn ask(session: &mut Session, statement: String) -> Result<Answer, StorageError> {
    let answer = query(&mut session.conn, statement).await;
    answer.map_err(|failure| failure.of_read())
}

async fn look(session: &mut Session) -> Result<Sight, StorageError> {
    let has = match session.is_mariadb {
        true => "@@global.gtid_slave_pos",
        false => "@@global.gtid_executed",
    };
    let statement = format!(
        "SELECT {FENCE}, {IDENTITY}, h.term, h.seq, {has} FROM shard f \
         LEFT JOIN heartbeat h ON h.id = 1 WHERE f.id = 1"
    );
    let answer = ask(session, statement).await?;
    let mut row = answer.rows.into_iter().next().ok_or_else(no_fence)?;
    let shown = ShownFence::decode(&mut row, 0)?;
    Ok(Sight {
        identity: identity(&mut row, 5)?,
        fence: shown.fence,
        answered_by: shown.answered_by,
        beat: beat(&mut row, 8)?,
        position: position(session, &mut row, 10)?,
    })
}

/// The heartbeat's columns, from column `first` on. A row that is missing is no beat.
pub(super) fn beat(row: &mut SqlRow, first: usize) -> Result<Beat, StorageError> {
    let mut number = |index| {
        let number: Option<u64> = column(row, first + index, "the heartbeat")?;
        Ok::<_, StorageError>(number.unwrap_or(0))
    };
    Ok(Beat {
        term: number(0)?,
        seq: number(1)?,
    })
}

/// A position in a column, if there is one.
pub(super) fn position(
    session: &Session,
    row: &mut SqlRow,
    index: usize,
) -> Result<Option<Position>, StorageError> {
    let shown: Option<Vec<u8>> = column(row, index, "a position")?;
    let shown = String::from_utf8_lossy(shown.as_deref().unwrap_or_default()).into_owned();
    parsed(session, &shown)
}

fn parsed(session: &Session, shown: &str) -> Result<Option<Position>, StorageError> {
    let position = match session.is_mariadb {
        true => Position::of_mariadb(shown),
        false => Position::of_mysql(shown),
    };
    let position = position.map_err(|_| unexpected("a position"))?;
    Ok((!position.is_empty()).then_some(position))
}

/// A position that includes everything that this session wrote, and saw when it wrote last.
pub(super) async fn written(session: &mut Session) -> Result<Option<Position>, StorageError> {
    if !session.is_mariadb {
        // A commit lets go of its rows before it counts as executed: it is owned until then. (Looked
        // at in this order, it is in one of them.)
        let statement = match session.last_write_changed {
            true => "SELECT '', @@global.gtid_executed",
            false => "SELECT @@global.gtid_owned, @@global.gtid_executed",
        };
        let mut row = one(ask(session, statement.to_owned()).await?)?;
        let owned = without_threads(&text(&mut row, 0, "a position")?);
        let executed = text(&mut row, 1, "a position")?;
        return parsed(session, &format!("{owned},{executed}"));
    }
    let statement = "SELECT @@last_gtid, @@global.gtid_binlog_pos, @@gtid_domain_id";
    let mut row = one(ask(session, statement.to_owned()).await?)?;
    let own = text(&mut row, 0, "a position")?;
    if session.last_write_changed && !own.is_empty() {
        return parsed(session, &own);
    }
    let all = text(&mut row, 1, "a position")?;
    let domain: u32 = column(&mut row, 2, "a domain")?;
    parsed(session, of_domain(&all, domain))
}

fn one(answer: Answer) -> Result<SqlRow, StorageError> {
    let row = answer.rows.into_iter().next();
    row.ok_or_else(|| unexpected("a position"))
}

/// What `gtid_owned` shows as a set: there each number has its thread behind it.
fn without_threads(owned: &str) -> String {
    let digit = |byte: char| byte.is_ascii_digit();
    let mut parts = owned.split('#');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |set, part| set + part.trim_start_matches(digit))
}

/// The part of a position that is of this domain.
fn of_domain(position: &str, domain: u32) -> &str {
    let is_of_it = |gtid: &&str| {
        let of = gtid.split('-').next().unwrap_or_default();
        of.trim().parse() == Ok(domain)
    };
    position.split(',').find(is_of_it).unwrap_or_default()
}

fn ended_term(mut row: SqlRow) -> Result<EndedTerm, StorageError> {
    let term = column(&mut row, 0, "a term")?;
    let server_id = column(&mut row, 1, "who led in a term")?;
    let position = text(&mut row, 2, "where a term ended")?;
    Ok(EndedTerm {
        term,
        server_id,
        position: Position::parse(&position).ok(),
    })
}

/// How each source of a server is followed: one row for each. (MariaDB shows its default connection
/// alone unless it is asked for all.)
pub(super) async fn channels(session: &mut Session) -> Result<Vec<SqlRow>, StorageError> {
    let statement = match session.is_mariadb {
        true => "SHOW ALL REPLICAS STATUS",
        false => "SHOW REPLICA STATUS",
    };
    Ok(ask(session, statement.to_owned()).await?.rows)
}

async fn replication(session: &mut Session) -> Result<Replication, StorageError> {
    // MariaDB commits the transactions of a domain in order in every mode that it has.
    let mut keeps_commit_order = true;
    if !session.is_mariadb {
        // A single worker commits in order, too; but how many there are shows only with the next start.
        let order = "SELECT @@global.replica_preserve_commit_order";
        let mut row = one(ask(session, order.to_owned()).await?)?;
        keeps_commit_order = column(&mut row, 0, "replica_preserve_commit_order")?;
    }
    let rows = channels(session).await?;
    let channels = rows.iter().map(channel);
    let mut channels: Vec<Channel> = channels.collect::<Result<_, _>>()?;
    if channels.is_empty() && !session.is_mariadb {
        channels.extend(channel_of_group(session).await?);
    }
    Ok(Replication {
        channels,
        keeps_commit_order,
    })
}

/// Whether the server is a member of a group that is part of it now, and whether it applies what the
/// group agrees on.
const MEMBER: &str = "SELECT (SELECT COUNT(*) FROM performance_schema.replication_applier_status \
                      WHERE channel_name = 'group_replication_applier' AND service_state = 'ON') \
                      FROM performance_schema.replication_group_members \
                      WHERE member_id = @@GLOBAL.server_uuid AND member_state = 'ONLINE'";

/// SHOW REPLICA STATUS leaves out how a member of a group follows it.
async fn channel_of_group(session: &mut Session) -> Result<Option<Channel>, StorageError> {
    let answer = match ask(session, MEMBER.to_owned()).await {
        Ok(answer) => answer,
        Err(StorageError::Refused {
            refusal: Refusal::Denied,
            ..
        }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(mut row) = answer.rows.into_iter().next() else {
        return Ok(None);
    };
    let applies: u64 = column(&mut row, 0, "the group's applier")?;
    Ok(Some(Channel {
        source_id: 0,
        is_of_group: true,
        receives: true,
        applies: applies > 0,
        filters: false,
        error: String::new(),
    }))
}

fn channel(row: &SqlRow) -> Result<Channel, StorageError> {
    // MariaDB keeps the old names.
    let either = |new: &str, old: &str| named(row, new).or_else(|| named(row, old));
    let says_yes = |value: Option<String>| value.is_some_and(|value| value == "Yes");
    let source_id = either("Source_Server_Id", "Master_Server_Id");
    let errors = ["Last_IO_Error", "Last_SQL_Error"].map(|name| named(row, name));
    let errors: Vec<String> = errors
        .into_iter()
        .flatten()
        .filter(|error| !error.is_empty())
        .collect();
    let name = named(row, "Channel_Name").unwrap_or_default();
    Ok(Channel {
        source_id: source_id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| unexpected("the source of a replica"))?,
        is_of_group: name.starts_with("group_replication_"),
        receives: says_yes(either("Replica_IO_Running", "Slave_IO_Running")),
        applies: says_yes(either("Replica_SQL_Running", "Slave_SQL_Running")),
        filters: FILTERS
            .iter()
            .any(|name| named(row, name).is_some_and(|rules| !rules.is_empty())),
        error: errors.join("; "),
    })
}

/// A column by its name, as text, if it is there and not NULL.
fn named(row: &SqlRow, name: &str) -> Option<String> {
    let columns = row.columns_ref();
    let index = columns
        .iter()
        .position(|column| column.name_str().eq_ignore_ascii_case(name))?;
    match row.as_ref(index)? {
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        mysql_async::Value::NULL => None,
        number => Some(number.as_sql(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_domains_one_counts() {
        assert_eq!(of_domain("0-1-5,10-1-7", 10), "10-1-7");
        assert_eq!(of_domain("0-1-5,10-1-7", 1), "");
        assert_eq!(of_domain("", 0), "");
    }

    #[test]
    fn what_is_owned_is_a_set_without_its_threads() {
        let (one, other) = (
            "3e11fa47-71ca-11e1-9e33-c80aa9429562",
            "4e11fa47-71ca-11e1-9e33-c80aa9429562",
        );
        let owned = without_threads(&format!("{one}:7#12:9#13,\n{other}:3#140"));
        assert_eq!(owned, format!("{one}:7:9,\n{other}:3"));
        assert_eq!(without_threads(""), "");
        let both = Position::of_mysql(&format!("{owned},{one}:1-6"));
        let same = Position::of_mysql(&format!("{one}:1-7:9,{other}:3"));
        assert_eq!(both.unwrap(), same.unwrap());
        assert!(Position::of_mysql(",").unwrap().is_empty());
    }
}
