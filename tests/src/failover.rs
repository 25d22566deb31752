//! Failovers, as an operator's tool makes them.

use crate::engine::Engine;
use crate::error::Result;
use crate::replication;
use crate::server::Server;
use crate::sql::Sql;

/// Makes a replica the server that takes writes: it fetches nothing more, applies what it has,
/// forgets whom it copied, and opens. What its master had not sent is lost. `prepare` is SQL that
/// comes before it opens.
pub async fn promote(replica: &Server, prepare: &str) -> Result<()> {
    close(replica).await?;
    let mut sql = replica.connect().await?;
    match replica.engine() {
        Engine::MariaDb => {
            sql.run("STOP SLAVE").await?;
            sql.run("RESET SLAVE ALL").await?;
        }
        Engine::MySql => {
            sql.run("STOP REPLICA").await?;
            sql.run("RESET REPLICA ALL").await?;
        }
    }
    sql.run(prepare).await?;
    open(replica).await
}

/// Opens a server that a former master runs on, whatever its settings were when it started.
pub async fn open(server: &Server) -> Result<()> {
    let mut sql = server.connect().await?;
    if server.engine() == Engine::MySql {
        sql.run("SET GLOBAL super_read_only = OFF").await?;
    }
    sql.run("SET GLOBAL read_only = OFF").await
}

/// Stops the receiver, and waits until everything that it brought is applied.
async fn close(replica: &Server) -> Result<()> {
    let mut sql = replica.connect().await?;
    sql.run("STOP REPLICA IO_THREAD").await?;
    replication::wait_for_state(replica, |state| !state.receiving).await?;
    let wait = match replica.engine() {
        Engine::MariaDb => {
            let received = received(&mut sql, "Gtid_IO_Pos").await?;
            format!("SELECT MASTER_GTID_WAIT('{received}', 60)")
        }
        Engine::MySql => {
            let received = received(&mut sql, "Retrieved_Gtid_Set").await?;
            format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{received}', 60)")
        }
    };
    sql.one::<i64>(&wait).await?;
    Ok(())
}

/// The position up to which something was received.
async fn received(sql: &mut Sql, column: &str) -> Result<String> {
    let status = sql.named("SHOW REPLICA STATUS").await?;
    let position = status.and_then(|row| row.get::<Option<String>, _>(column));
    Ok(position.flatten().unwrap_or_default().replace('\n', ""))
}

/// Has a replica, or a former master that has nothing of its own, copy another server.
pub async fn repoint(replica: &Server, master: &Server) -> Result<()> {
    replication::copy(master, replica).await
}

/// Options of a server that acknowledges what it receives, and can wait for others that do.
pub fn semi_synchronous(engine: Engine) -> Vec<String> {
    let options: &[&str] = match engine {
        Engine::MariaDb => &["--rpl-semi-sync-slave-enabled=ON"],
        Engine::MySql => &[
            "--plugin-load-add=semisync_source.so",
            "--plugin-load-add=semisync_replica.so",
            "--loose-rpl-semi-sync-replica-enabled=ON",
        ],
    };
    options.iter().map(ToString::to_string).collect()
}

/// Options of a server that leads, and lets commits wait until a replica has them, from its start.
/// It is no replica: MariaDB would drop from its binlog, after a crash, what only others have
/// acknowledged.
pub fn semi_synchronous_leader(engine: Engine) -> Vec<String> {
    let (source, plugins): (_, &[&str]) = match engine {
        Engine::MariaDb => ("master", &[]),
        Engine::MySql => (
            "source",
            &[
                "--plugin-load-add=semisync_source.so",
                "--plugin-load-add=semisync_replica.so",
            ],
        ),
    };
    let set = [
        ("enabled", "ON"),
        ("timeout", "1000000000"),
        ("wait-point", "AFTER_SYNC"),
    ];
    let set = set.map(|(name, value)| format!("--loose-rpl-semi-sync-{source}-{name}={value}"));
    let plugins = plugins.iter().map(ToString::to_string);
    plugins.chain(set).collect()
}

/// Which of these replicas has received most. No master may send them anything meanwhile.
pub async fn most_received(replicas: &[&Server]) -> Result<usize> {
    let mut best = 0;
    let mut position = String::new();
    for (index, replica) in replicas.iter().enumerate() {
        let mut sql = replica.connect().await?;
        sql.run("STOP REPLICA IO_THREAD").await?;
        replication::wait_for_state(replica, |state| !state.receiving).await?;
        let (own, is_more) = match replica.engine() {
            Engine::MariaDb => {
                let own = received(&mut sql, "Gtid_IO_Pos").await?;
                let is_more = last_number(&own) > last_number(&position);
                (own, is_more)
            }
            Engine::MySql => {
                let received = received(&mut sql, "Retrieved_Gtid_Set").await?;
                let executed: String = sql.one("SELECT @@gtid_executed").await?;
                let own = format!("{received},{}", executed.replace('\n', ""));
                let query = format!("SELECT GTID_SUBSET('{own}', '{position}')");
                let is_known: i64 = sql.one(&query).await?;
                (own, is_known == 0)
            }
        };
        if is_more {
            (best, position) = (index, own);
        }
    }
    Ok(best)
}

/// The sequence number of a position of MariaDB with one domain; 0 if it is empty.
fn last_number(position: &str) -> u64 {
    let number = position.rsplit('-').next().and_then(|n| n.parse().ok());
    number.unwrap_or(0)
}

/// Makes a former master, which runs and is closed, copy another server: as it is, or, if it has
/// something that the other one lacks, rebuilt from nothing.
pub async fn rejoin(former: &mut Server, master: &Server) -> Result<()> {
    let mut sql = former.connect().await?;
    let has_more = match former.engine() {
        Engine::MariaDb => {
            let own: String = sql.one("SELECT @@gtid_binlog_pos").await?;
            let query = "SELECT @@gtid_binlog_state";
            let known: String = master.connect().await?.one(query).await?;
            let (by, number) = own.rsplit_once('-').unwrap_or_default();
            let known = known.split(',').filter_map(|one| one.rsplit_once('-'));
            !known
                .filter(|(other, _)| *other == by)
                .any(|(_, most)| last_number(most) >= last_number(number))
        }
        Engine::MySql => {
            let own: String = sql.one("SELECT @@gtid_executed").await?;
            let own = own.replace('\n', "");
            let query = format!("SELECT GTID_SUBSET('{own}', @@gtid_executed)");
            master.connect().await?.one::<i64>(&query).await? == 0
        }
    };
    if has_more {
        former.kill();
        former.lose_everything().await?;
        // A replica leaves out what it takes for its own.
        let port = u32::from(former.port());
        let id = former.options_mut().server_id.get_or_insert(port);
        *id += 65_536;
        former.start_again().await?;
    } else if former.engine() == Engine::MariaDb {
        sql.run("STOP SLAVE; SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos")
            .await?;
    }
    replication::copy(master, former).await
}

/// SQL after which a commit waits until a replica has it, without end and before others see it.
pub fn wait_for_replicas(engine: Engine) -> String {
    let source = match engine {
        Engine::MariaDb => "rpl_semi_sync_master",
        Engine::MySql => "rpl_semi_sync_source",
    };
    format!(
        "SET GLOBAL {source}_timeout = 1000000000, GLOBAL {source}_wait_point = 'AFTER_SYNC', \
         GLOBAL {source}_enabled = ON"
    )
}
