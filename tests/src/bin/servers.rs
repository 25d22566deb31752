//! Real masters and replicas to play with: prints a config for them, and ends them when its
//! standard input closes.
//!
//! `cargo run -p freehold-tests --bin servers -- mariadb 2 1`: two masters with a replica each.

use std::io::{Read, Write, stdin, stdout};
use std::process::ExitCode;

use freehold_tests::{Engine, Error, Result, Server, Shard, replication, shards_toml};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((engine, masters, replicas)) = parse(&arguments) else {
        eprintln!("usage: servers mariadb|mysql MASTERS REPLICAS_OF_EACH");
        return ExitCode::from(2);
    };
    match run(engine, masters, replicas).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<(Engine, u8, u8)> {
    let [engine, masters, replicas] = arguments else {
        return None;
    };
    let engine = Engine::ALL
        .into_iter()
        .find(|known| known.to_string() == *engine)?;
    Some((engine, masters.parse().ok()?, replicas.parse().ok()?))
}

async fn run(engine: Engine, masters: u8, replicas: u8) -> Result<()> {
    let mut shards = Vec::new();
    let mut servers = Vec::new();
    for number in 0..masters {
        let master = Server::of(engine).await?;
        let mut copies = Vec::new();
        for _ in 0..replicas {
            copies.push(replication::start_replica(&master).await?);
        }
        let name = format!("shard-{number}");
        shards.push(Shard::new(
            &name,
            &master,
            &copies.iter().collect::<Vec<_>>(),
        ));
        servers.push((master, copies));
    }
    let shown = || {
        stdout().write_all(shards_toml(&shards).as_bytes())?;
        stdout().flush()?;
        stdin().read_to_end(&mut Vec::new())
    };
    shown().map(drop).map_err(|source| Error::Io {
        path: "stdout".into(),
        source,
    })
}
