//! Looking at a server's part in replication; adopting it is `adoption`'s.
//!
//! The two servers tell of their threads in their own ways: MySQL in tables of `performance_schema`,
//! MariaDB in `SHOW ALL SLAVES STATUS`.

use async_trait::async_trait;
use freehold_core::{Fence, ShardClaims, Slot};
use mysql_async::{Row as SqlRow, prelude::FromValue};

use super::{
    MysqlConnection, adoption, claims,
    decode::column,
    error::unexpected,
    session::{Session, query},
};
use crate::{
    error::{Refusal, StorageError},
    promotion::{Copying, GroupMember, Part, PromotionConnection},
};

const SETTINGS_OF_MYSQL: &str = "SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only OR \
                                 @@GLOBAL.innodb_read_only";
const SETTINGS_OF_MARIADB: &str = "SELECT @@GLOBAL.read_only OR @@GLOBAL.innodb_read_only";

/// Receivers, appliers, and channels that have something left to apply. The group's own channels
/// run on its primary, too, and are looked at by their queue.
const COPYING_OF_MYSQL: &str = "SELECT \
    (SELECT COUNT(*) FROM performance_schema.replication_connection_status \
      WHERE service_state <> 'OFF' AND channel_name NOT LIKE 'group\\_replication\\_%'), \
    (SELECT COUNT(*) FROM performance_schema.replication_applier_status \
      WHERE service_state <> 'OFF' AND channel_name NOT LIKE 'group\\_replication\\_%'), \
    (SELECT COUNT(*) FROM performance_schema.replication_connection_status \
      WHERE NOT GTID_SUBSET(received_transaction_set, @@GLOBAL.gtid_executed) \
      AND channel_name NOT LIKE 'group\\_replication\\_%') + \
    (SELECT COALESCE(SUM(count_transactions_remote_in_applier_queue), 0) \
      FROM performance_schema.replication_group_member_stats \
      WHERE member_id = @@GLOBAL.server_uuid)";

/// Its own role and state, how many members it sees at all, and how many it reaches. One that is in
/// no group has a row without a name, or none.
const GROUP_OF_MYSQL: &str = "SELECT \
    MAX(IF(member_id = @@GLOBAL.server_uuid, member_role, NULL)) = 'PRIMARY', \
    MAX(IF(member_id = @@GLOBAL.server_uuid, member_state, NULL)) = 'ONLINE', \
    COUNT(*), SUM(member_state IN ('ONLINE', 'RECOVERING')) \
    FROM performance_schema.replication_group_members WHERE member_id <> ''";

#[async_trait]
impl PromotionConnection for MysqlConnection {
    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        let mut session = self.take()?;
        let claims = claims::claims(&mut session, above_epoch).await;
        self.put_back(session, claims.as_ref().err());
        claims
    }

    async fn part(&mut self) -> Result<Part, StorageError> {
        let mut session = self.take()?;
        let seen = part(&mut session).await;
        self.put_back(session, seen.as_ref().err());
        seen
    }

    async fn adopt(&mut self, seen: &Fence, known: &Fence) -> Result<bool, StorageError> {
        let mut session = self.take()?;
        let adopted = adoption::adopt(&mut session, seen, known).await;
        // A transaction that was not ended ends with its connection.
        if matches!(adopted, Ok(true)) {
            self.put_back(session, None);
        }
        adopted
    }

    async fn stop_moves_of(&mut self, slots: &[(Slot, u64)]) -> Result<ShardClaims, StorageError> {
        let mut session = self.take()?;
        let rows = adoption::stop_moves_of(&mut session, slots).await;
        self.put_back(session, rows.as_ref().err());
        rows
    }

    async fn serve_compared(&mut self, seen: &Fence, slots: &[Slot]) -> Result<bool, StorageError> {
        let mut session = self.take()?;
        let served = adoption::serve_compared(&mut session, seen, slots).await;
        if served.is_ok() {
            self.put_back(session, None);
        }
        served
    }
}

async fn part(session: &mut Session) -> Result<Part, StorageError> {
    let is_mariadb = session.is_mariadb;
    let settings = if is_mariadb {
        SETTINGS_OF_MARIADB
    } else {
        SETTINGS_OF_MYSQL
    };
    let mut settings = one(rows(session, settings).await?, "whether it takes writes")?;
    let read_only: u64 = column(&mut settings, 0, "whether it takes writes")?;
    let copying = if is_mariadb {
        copying_of_mariadb(session).await
    } else {
        copying_of_mysql(session).await
    };
    let copying = match copying {
        Ok(copying) => Ok(copying),
        Err(StorageError::Refused {
            refusal: Refusal::Denied,
            message,
            ..
        }) => Err(message),
        Err(error) => return Err(error),
    };
    Ok(Part {
        read_only: read_only != 0,
        copying,
    })
}

async fn copying_of_mysql(session: &mut Session) -> Result<Copying, StorageError> {
    let mut threads = one(rows(session, COPYING_OF_MYSQL).await?, "its threads")?;
    let mut counts = [0_u64; 3];
    for (index, count) in counts.iter_mut().enumerate() {
        *count = number(&mut threads, index, "its threads")?;
    }
    let mut members = one(rows(session, GROUP_OF_MYSQL).await?, "its group")?;
    let is_primary: Option<u64> = column(&mut members, 0, "its role")?;
    let is_online: Option<u64> = column(&mut members, 1, "its state")?;
    let all = number(&mut members, 2, "its group")?;
    let reached = match all {
        0 => 0,
        _ => number(&mut members, 3, "its group")?,
    };
    Ok(Copying {
        receiver_runs: counts[0] > 0,
        applier_runs: counts[1] > 0,
        is_unapplied: counts[2] > 0,
        group: (all > 0).then_some(GroupMember {
            is_primary: is_primary == Some(1),
            is_online: is_online == Some(1),
            has_majority: 2 * reached > all,
        }),
    })
}

/// Everything was applied when the applier stands where the receiver stands, in the same file.
async fn copying_of_mariadb(session: &mut Session) -> Result<Copying, StorageError> {
    let channels = rows(session, "SHOW ALL SLAVES STATUS").await?;
    let mut copying = Copying::default();
    for channel in channels {
        let word = |name: &str| -> Result<String, StorageError> {
            let value: Option<Vec<u8>> = named(&channel, name)?;
            Ok(String::from_utf8_lossy(&value.unwrap_or_default()).into_owned())
        };
        let place = |name: &str| -> Result<Option<u64>, StorageError> { named(&channel, name) };
        copying.receiver_runs |= word("Slave_IO_Running")? != "No";
        copying.applier_runs |= word("Slave_SQL_Running")? != "No";
        copying.is_unapplied |= word("Master_Log_File")? != word("Relay_Master_Log_File")?
            || place("Read_Master_Log_Pos")? != place("Exec_Master_Log_Pos")?;
    }
    Ok(copying)
}

async fn rows(session: &mut Session, statement: &str) -> Result<Vec<SqlRow>, StorageError> {
    let answer = query(&mut session.conn, statement.to_owned()).await;
    Ok(answer.map_err(|failure| failure.of_read())?.rows)
}

fn one(rows: Vec<SqlRow>, what: &str) -> Result<SqlRow, StorageError> {
    rows.into_iter().next().ok_or_else(|| unexpected(what))
}

/// A whole number, which sums show as decimal text.
fn number(row: &mut SqlRow, index: usize, what: &str) -> Result<u64, StorageError> {
    column(row, index, what)
}

fn named<T: FromValue>(row: &SqlRow, name: &str) -> Result<T, StorageError> {
    match row.get_opt(name) {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) | None => Err(unexpected(name)),
    }
}
