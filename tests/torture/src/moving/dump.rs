//! What moving rows is compared with: a dump of them, read by another server's client.

use std::process::{Command, Stdio};

use freehold_core::SlotSet;
use freehold_tests::{Engine, Login, Server};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::Result;
use crate::moving::servers::{Pair, Servers};

/// Slots of one shard that are to go elsewhere.
#[derive(Debug, Clone)]
pub struct Share {
    /// The shard that has them.
    pub source: String,
    /// Which they are.
    pub slots: SlotSet,
}

/// What a dump came to.
#[derive(Debug, Clone, Copy)]
pub struct Dumped {
    /// How long it took.
    pub seconds: f64,
    /// The rows that the other server has now.
    pub rows: u64,
}

/// Dumps the rows of these slots from their shards, one after the other as they would be moved, into
/// a table of the spare server.
///
/// # Errors
/// If a program is missing or fails, with what it said.
pub async fn dump(servers: &Servers, spare: &Pair, shares: &[Share]) -> Result<Dumped> {
    let target = &spare.master;
    target
        .connect()
        .await?
        .run("DROP TABLE IF EXISTS store")
        .await?;
    let began = Instant::now();
    for (number, Share { source, slots }) in shares.iter().enumerate() {
        let mut from = client(
            target.engine().dump_program()?.command(),
            servers.master(source)?,
        );
        from.args([
            "--single-transaction",
            &format!("--where={}", condition(slots)),
        ]);
        if target.engine() == Engine::MySql {
            from.args(["--set-gtid-purged=OFF", "--no-tablespaces"]);
        }
        if number > 0 {
            from.arg("--no-create-info");
        }
        let login = Login::admin();
        let database = login.database.unwrap_or_default();
        from.args([database.as_str(), "store"]);
        let mut into = client(target.engine().shell_program()?.command(), target);
        into.arg(&database);
        spawn_blocking(move || pipe(from, into)).await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rows = target
        .connect()
        .await?
        .one("SELECT COUNT(*) FROM store")
        .await?;
    Ok(Dumped { seconds, rows })
}

/// A client of a server, without the machine's own settings and without encryption, which movers do
/// not have here either.
fn client(mut command: Command, server: &Server) -> Command {
    let Login { user, password, .. } = Login::admin();
    command
        .args(["--no-defaults", "--host=127.0.0.1"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--user={user}"))
        .arg(format!("--password={password}"));
    if server.engine() == Engine::MySql {
        command.args(["--ssl-mode=DISABLED", "--get-server-public-key"]);
    }
    command
}

fn condition(slots: &SlotSet) -> String {
    let ranges = slots.ranges().iter();
    let ranges = ranges.map(|range| format!("slot BETWEEN {} AND {}", range.start(), range.end()));
    ranges.collect::<Vec<_>>().join(" OR ")
}

fn pipe(mut from: Command, mut into: Command) -> Result<()> {
    let mut reader = from
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let between = reader.stdout.take().ok_or("no pipe")?;
    let written = into.stdin(between).output()?;
    let read = reader.wait_with_output()?;
    for (command, output) in [(&from, read), (&into, written)] {
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{:?}: {}\n{said}", command.get_program(), output.status).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_slots_is_a_condition() {
        let slots: SlotSet = "7,10-12".parse().unwrap();
        let expected = "slot BETWEEN 7 AND 7 OR slot BETWEEN 10 AND 12";
        assert_eq!(condition(&slots), expected);
    }
}
