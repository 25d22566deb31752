//! Does for scripts what clients cannot do. A script connects, sends a line, and reads one:
//!
//! | line | what happens |
//! |---|---|
//! | `freeze a`, `thaw a` | the master of shard a is stopped with its connections open, or goes on |
//! | `kill a`, `start a` | it is killed, or started again with its data |
//! | `sql a STATEMENTS` | they run on the master of shard a, on one connection that stays open |
//! | `drain` | the router is told to end, in order |
//! | `serve` | it is started again, once it has |
//! | `watch` | the masters begin to log every statement |
//! | `touched` | how many statements on keys there have been, by the router's count and by the masters' logs |

use std::time::Duration;

use freehold_tests::{Error, Result, Server, Signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::scene::Scene;

const WATCH: &str = "SET GLOBAL log_output = 'TABLE'; SET GLOBAL general_log = ON";

/// All there is about keys is in the table `store`.
const TOUCHED: &str = "SELECT COUNT(*) FROM mysql.general_log
     WHERE argument LIKE '%store%' AND argument NOT LIKE '%general_log%'";

/// Answers scripts, one after the other, for ever.
pub(crate) async fn direct(scene: &mut Scene, listener: &TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.map_err(broken)?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(broken)?;
        let answer = match act(scene, line.trim()).await {
            Ok(answer) => format!("ok {answer}\n"),
            Err(error) => format!("failed: {}\n", error.to_string().replace('\n', " ")),
        };
        let mut stream: TcpStream = stream.into_inner();
        stream.write_all(answer.as_bytes()).await.map_err(broken)?;
    }
}

async fn act(scene: &mut Scene, line: &str) -> Result<String> {
    match line.split_once(' ') {
        Some(("sql", rest)) => {
            let (shard, statements) = rest.split_once(' ').ok_or_else(|| unknown(rest))?;
            scene.session(shard).await?.run(statements).await?;
        }
        None if line == "drain" => scene.router.signal(Signal::TERM)?,
        None if line == "serve" => {
            scene.router.wait(Duration::from_secs(60)).await?;
            scene.router.serve().await?;
        }
        Some((verb, shard)) => act_on_master(scene, verb, shard).await?,
        None if line == "watch" => {
            for master in scene.masters.values() {
                master.connect().await?.run(WATCH).await?;
            }
        }
        None if line == "touched" => return Ok(touched(scene).await?.to_string()),
        None => return Err(unknown(line)),
    }
    Ok(String::new())
}

async fn act_on_master(scene: &mut Scene, verb: &str, shard: &str) -> Result<()> {
    let master: &mut Server = scene.masters.get_mut(shard).ok_or_else(|| unknown(shard))?;
    match verb {
        "freeze" => master.freeze(),
        "thaw" => master.thaw(),
        "kill" => {
            master.kill();
            Ok(())
        }
        "start" => master.start_again().await,
        _ => Err(unknown(verb)),
    }
}

async fn touched(scene: &Scene) -> Result<u64> {
    let mut count = statements(&scene.router.http_get("/metrics").await?.1);
    for master in scene.masters.values() {
        count += master.connect().await?.one::<u64>(TOUCHED).await?;
    }
    Ok(count)
}

/// All statements of all kinds that the router counts.
fn statements(metrics: &str) -> u64 {
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("freehold_statement_seconds_count{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn unknown(what: &str) -> Error {
    let message = format!("'{what}' is not known");
    Error::Process {
        program: "director".to_owned(),
        message,
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::Process {
        program: "director".to_owned(),
        message: error.to_string(),
    }
}
