//! A short torture of each database with most kinds of faults, from a seed of its own each time. It
//! prints the command that repeats it.

use clap::Parser as _;
use freehold_torture::{Options, Result, run};

async fn short(engine: &str) -> Result<()> {
    let mut drawn = [0; 4];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut drawn))?;
    let given = std::env::var("FREEHOLD_TEST_SEED").ok();
    let given = given.and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(u32::from_ne_bytes(drawn)));
    // Disks and clocks are for longer runs: a server whose disk was full may want a minute to mend.
    let faults = "routers,masters,replicas,network,clients,handovers,moves,failovers";
    // Two rounds. How late answers are on a busy machine is a question for a quiet one.
    let line = [
        "torture",
        "--engine",
        engine,
        "--seconds",
        "15",
        "--round-seconds",
        "14",
        "--unary",
        "3",
        "--pipelined",
        "3",
        "--late-ms-max",
        "3000",
        // As well as how many get no answer at all in time.
        "--unanswered-percent-max",
        "10",
        "--faults",
        faults,
    ];
    let options = Options::try_parse_from(line)?;
    println!("FREEHOLD_TEST_SEED={seed}: {}", options.command(seed));
    let totals = run(&options, seed, |words| println!("{words}")).await?;
    println!("{}", totals.words());
    if let Some((verdict, folder)) = totals.failure {
        return Err(format!("{}: {verdict}", folder.display()).into());
    }
    // Otherwise it has shown nothing.
    assert!(totals.outcomes[0] > 100, "{}", totals.words());
    assert!(
        !totals.injected.faults.is_empty() && totals.rows > 0,
        "{}",
        totals.words()
    );
    for level in ["STRONG", "EVENTUAL", "BOUNDED_STALENESS", "SESSION"] {
        let is_answered = totals.reads.keys().any(|read| read.starts_with(level));
        assert!(is_answered, "no read at {level}: {}", totals.words());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_torture_of_mariadb_is_clean() -> Result<()> {
    short("mariadb").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_torture_of_mysql_is_clean() -> Result<()> {
    short("mysql").await
}
