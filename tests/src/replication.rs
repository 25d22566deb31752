//! A replica of a master, set up by the SQL of `deploy/`.

use std::time::Duration;

use tokio::time::Instant;

use crate::deploy;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::ServerOptions;
use crate::server::Server;
use crate::sql::Sql;

const USER: &str = "replicator";
const PASSWORD: &str = "replicator-password";
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// Starts a read-only replica of `master` and waits until it has everything.
pub async fn start_replica(master: &Server) -> Result<Server> {
    let replica = Server::start(ServerOptions::new(master.engine()).read_only()).await?;
    attach(master, &replica).await?;
    Ok(replica)
}

/// Starts two at once, as [`start_replica`] does one.
pub async fn start_two_replicas(master: &Server) -> Result<[Server; 2]> {
    let (first, second) = tokio::try_join!(start_replica(master), start_replica(master))?;
    Ok([first, second])
}

/// Makes `replica`, which has no writes of its own, copy `master` from its first write on, and
/// waits until it has everything.
pub async fn attach(master: &Server, replica: &Server) -> Result<()> {
    let account = [
        ("REPLICATION_USER", USER),
        ("REPLICATION_PASSWORD", PASSWORD),
    ];
    let on_master = deploy::sql(master.engine(), "replication-master.sql", &account)?;
    master.connect().await?.run(&on_master).await?;
    copy(master, replica).await?;
    wait_until_caught_up(master, replica).await
}

/// Makes `replica` copy `master`, which has the account for it, read-only from now on.
pub async fn copy(master: &Server, replica: &Server) -> Result<()> {
    let port = master.port().to_string();
    let values = [
        ("MASTER_HOST", "127.0.0.1"),
        ("MASTER_PORT", port.as_str()),
        ("REPLICATION_USER", USER),
        ("REPLICATION_PASSWORD", PASSWORD),
    ];
    let on_replica = deploy::sql(master.engine(), "replication-replica.sql", &values)?;
    // Nobody waits here for the sake of a master that is down.
    let on_replica = on_replica.replace("CONNECT_RETRY = 5", "CONNECT_RETRY = 1");
    replica.connect().await?.run(&on_replica).await
}

/// Makes `replica`, which copies `master`, go on by a connection that has a name, as servers with
/// several sources have them.
pub async fn copy_by_name(master: &Server, replica: &Server, name: &str) -> Result<()> {
    let port = master.port();
    let statements = match master.engine() {
        Engine::MariaDb => format!(
            "STOP SLAVE; RESET SLAVE ALL; \
             CHANGE MASTER '{name}' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, \
             MASTER_USER = '{USER}', MASTER_PASSWORD = '{PASSWORD}', MASTER_USE_GTID = slave_pos; \
             START SLAVE '{name}'"
        ),
        Engine::MySql => format!(
            "STOP REPLICA; RESET REPLICA ALL; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
             SOURCE_USER = '{USER}', SOURCE_PASSWORD = '{PASSWORD}', SOURCE_AUTO_POSITION = 1, \
             GET_SOURCE_PUBLIC_KEY = 1 FOR CHANNEL '{name}'; \
             START REPLICA FOR CHANNEL '{name}'"
        ),
    };
    replica.connect().await?.run(&statements).await
}

/// Waits until `replica` has applied everything that `master` has committed by now.
pub async fn wait_until_caught_up(master: &Server, replica: &Server) -> Result<()> {
    let (position, wait) = match master.engine() {
        Engine::MariaDb => ("SELECT @@gtid_binlog_pos", "MASTER_GTID_WAIT"),
        Engine::MySql => ("SELECT @@gtid_executed", "WAIT_FOR_EXECUTED_GTID_SET"),
    };
    let position: String = master.connect().await?.one(position).await?;
    // MySQL puts line breaks between the parts of a set.
    let position = position.replace('\n', "");
    let mut sql = replica.connect().await?;
    let seconds = CAUGHT_UP_WITHIN.as_secs();
    // 0 when it got there, -1 or 1 when the time was up.
    let outcome: i64 = sql
        .one(&format!("SELECT {wait}('{position}', {seconds})"))
        .await?;
    if outcome == 0 {
        return Ok(());
    }
    let state = State::of(&mut sql).await?;
    Err(Error::Late {
        what: format!("{position} on the replica: {state:?}"),
        waited_s: seconds,
    })
}

/// What a replica says about its two threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The receiver is connected to its master.
    pub receiving: bool,
    /// The applier runs.
    pub applying: bool,
    /// Seconds it is behind by its own account; absent when it cannot say.
    pub lag_s: Option<u64>,
    /// The last errors of both, empty when there are none.
    pub errors: String,
}

impl State {
    /// Asks a replica; both threads are off on a server that is none.
    pub async fn of(sql: &mut Sql) -> Result<Self> {
        let Some(row) = sql.named("SHOW REPLICA STATUS").await? else {
            return Ok(Self {
                receiving: false,
                applying: false,
                lag_s: None,
                errors: String::new(),
            });
        };
        // MariaDB has kept the old words.
        let text = |new: &str, old: &str| -> String {
            let value = row.get::<Option<String>, _>(new).or_else(|| row.get(old));
            value.flatten().unwrap_or_default()
        };
        Ok(Self {
            receiving: text("Replica_IO_Running", "Slave_IO_Running") == "Yes",
            applying: text("Replica_SQL_Running", "Slave_SQL_Running") == "Yes",
            lag_s: text("Seconds_Behind_Source", "Seconds_Behind_Master")
                .parse()
                .ok(),
            errors: text("Last_IO_Error", "Last_IO_Error") + &text("Last_SQL_Error", ""),
        })
    }
}

/// Stops the applier: the replica still receives, but what it shows stays as it is.
pub async fn stop_applier(replica: &Server) -> Result<()> {
    replica
        .connect()
        .await?
        .run("STOP REPLICA SQL_THREAD")
        .await
}

/// Starts the applier again.
pub async fn start_applier(replica: &Server) -> Result<()> {
    replica
        .connect()
        .await?
        .run("START REPLICA SQL_THREAD")
        .await
}

/// Stops the receiver: what was brought is applied, and nothing is brought.
pub async fn stop_receiver(replica: &Server) -> Result<()> {
    replica.connect().await?.run("STOP REPLICA IO_THREAD").await
}

/// Starts the receiver again.
pub async fn start_receiver(replica: &Server) -> Result<()> {
    replica
        .connect()
        .await?
        .run("START REPLICA IO_THREAD")
        .await
}

/// Stops receiver and applier.
pub async fn stop(replica: &Server) -> Result<()> {
    replica.connect().await?.run("STOP REPLICA").await
}

/// Starts receiver and applier again.
pub async fn start(replica: &Server) -> Result<()> {
    replica.connect().await?.run("START REPLICA").await
}

/// Has a replica receive from another port of 127.0.0.1: its master's behind a network.
pub async fn receive_from(replica: &Server, port: u16) -> Result<()> {
    let change = match replica.engine() {
        Engine::MariaDb => format!("CHANGE MASTER TO MASTER_PORT = {port}"),
        Engine::MySql => format!("CHANGE REPLICATION SOURCE TO SOURCE_PORT = {port}"),
    };
    let mut sql = replica.connect().await?;
    sql.run("STOP REPLICA").await?;
    sql.run(&change).await?;
    sql.run("START REPLICA").await
}

/// Applies everything `seconds` late from now on; 0 ends it.
pub async fn set_delay(replica: &Server, seconds: u32) -> Result<()> {
    let change = match replica.engine() {
        Engine::MariaDb => format!("CHANGE MASTER TO MASTER_DELAY = {seconds}"),
        Engine::MySql => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"),
    };
    let mut sql = replica.connect().await?;
    // MariaDB wants both threads to stand still for a change, MySQL the applier alone.
    sql.run("STOP REPLICA").await?;
    sql.run(&change).await?;
    sql.run("START REPLICA").await
}

/// Waits until the replica's threads are as `wanted` says.
pub async fn wait_for_state(replica: &Server, wanted: impl Fn(&State) -> bool) -> Result<State> {
    let deadline = Instant::now() + CAUGHT_UP_WITHIN;
    let mut sql = replica.connect().await?;
    loop {
        let state = State::of(&mut sql).await?;
        if wanted(&state) {
            return Ok(state);
        }
        if Instant::now() >= deadline {
            let what = format!("another state of the replica than {state:?}");
            return Err(Error::Late {
                what,
                waited_s: CAUGHT_UP_WITHIN.as_secs(),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
