//! `init` refuses a server that would lose or break data, says which and why, and creates nothing.

use std::process::Command;

use freehold_tests::{Engine, Router, Server, ServerOptions, clock};

use crate::scene::{Result, shards};

/// What is wrong, and the words that must be said of it.
struct Unfit {
    /// Changes of a running server.
    set: &'static str,
    /// And back.
    unset: &'static str,
    words: &'static [&'static str],
}

const UNFIT: [Unfit; 4] = [
    Unfit {
        set: "SET GLOBAL binlog_format = 'STATEMENT'",
        unset: "SET GLOBAL binlog_format = 'ROW'",
        words: &["binlog_format", "STATEMENT", "ROW"],
    },
    Unfit {
        set: "SET GLOBAL read_only = ON",
        unset: "SET GLOBAL read_only = OFF",
        words: &["read_only"],
    },
    Unfit {
        set: "SET GLOBAL max_allowed_packet = 1048576",
        unset: "SET GLOBAL max_allowed_packet = 67108864",
        words: &["max_allowed_packet", "1.00 MiB"],
    },
    Unfit {
        set: "SET GLOBAL default_storage_engine = 'MyISAM'",
        unset: "SET GLOBAL default_storage_engine = 'InnoDB'",
        words: &["default_storage_engine", "MyISAM", "InnoDB"],
    },
];

/// The first shard is fit: the answer must name the second.
async fn an_unfit_server_is_refused_with_the_reason(engine: Engine) -> Result<()> {
    let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
    let masters = [a, b];
    let router = Router::configure(&shards(&masters), "")?;
    for Unfit { set, unset, words } in UNFIT {
        masters[1].connect().await?.run(set).await?;
        let answer = router.init().await?;
        masters[1].connect().await?.run(unset).await?;
        assert_eq!(
            answer.code,
            Some(3),
            "{set}: {}{}",
            answer.stdout,
            answer.stderr
        );
        let port = masters[1].port().to_string();
        for words in words.iter().chain([&"shard 'b'", &port.as_str()]) {
            assert!(
                answer.stderr.contains(words),
                "{set}: {words}: {}",
                answer.stderr
            );
        }
        assert!(
            !answer.stderr.contains("shard 'a'"),
            "{set}: {}",
            answer.stderr
        );
        assert_nothing_created(&masters, set).await?;
    }
    router.init().await?.success()?;
    Ok(())
}

async fn a_replica_that_is_named_as_a_master_is_refused(engine: Engine) -> Result<()> {
    let master = [Server::start(ServerOptions::new(engine).read_only()).await?];
    let answer = Router::configure(&shards(&master), "")?.init().await?;
    assert_eq!(answer.code, Some(3), "{}{}", answer.stdout, answer.stderr);
    for words in ["shard 'a'", "read_only"] {
        assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
    }
    assert_nothing_created(&master, "read_only").await
}

/// The program's clock is put ahead, which is the same as a server whose clock is behind.
async fn a_server_whose_clock_is_off_is_refused(engine: Engine) -> Result<()> {
    let master = [Server::of(engine).await?];
    let router = Router::configure(&shards(&master), "")?;
    for (skew_s, refused) in [(7, true), (-7, true), (3, false)] {
        let answer = Command::new(freehold_tests::cli::program()?)
            .args(["init", "--config"])
            .arg(router.config_file())
            .envs(clock::ahead(skew_s)?)
            .output()?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        if refused {
            assert_eq!(answer.status.code(), Some(3), "{skew_s} s: {said}");
            assert!(
                said.contains("shard 'a'") && said.contains("clock"),
                "{skew_s} s: {said}"
            );
            assert_nothing_created(&master, "clock").await?;
        } else {
            assert_eq!(answer.status.code(), Some(0), "{skew_s} s: {said}");
        }
    }
    Ok(())
}

async fn assert_nothing_created(masters: &[Server], why: &str) -> Result<()> {
    for master in masters {
        let tables: u64 = master
            .connect()
            .await?
            .one("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'freehold'")
            .await?;
        assert_eq!(tables, 0, "{why}: something was created");
    }
    Ok(())
}

on_servers!(
    an_unfit_server_is_refused_with_the_reason,
    a_replica_that_is_named_as_a_master_is_refused,
    a_server_whose_clock_is_off_is_refused,
);
