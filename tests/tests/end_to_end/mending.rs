//! What `freehold doctor` says mends a server does: its statements are run as they stand, and its
//! lines of `my.cnf` are what the server is started with.

use std::collections::BTreeSet;

use freehold_tests::{Engine, Login, Router, Server, ServerOptions, Shard};
use serde_json::Value;

use crate::scene::Result;

/// The routers' account: not the one that mends.
const USER: &str = "router";
const PASSWORD: &str = "a-password";

/// Wrong on either server.
const WRONG: [&str; 9] = [
    "--binlog-format=MIXED",
    "--binlog-row-image=FULL",
    "--max-allowed-packet=1M",
    "--max-connections=20",
    "--max-prepared-stmt-count=20",
    "--default-time-zone=+02:00",
    "--default-storage-engine=MyISAM",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
];

/// What the doctor calls these.
const FOUND: [&str; 10] = [
    "binlog_format",
    "binlog_row_image",
    "default_storage_engine",
    "innodb_flush_log_at_trx_commit",
    "max_allowed_packet",
    "max_connections",
    "max_prepared_stmt_count",
    "sync_binlog",
    "tables",
    "time_zone",
];

struct Scene {
    server: Server,
    router: Router,
}

/// What the doctor found.
struct Found(Vec<Value>);

impl Scene {
    /// A server that is set wrong in every way that a server can be started with.
    async fn new(engine: Engine) -> Result<Self> {
        let more: &[&str] = match engine {
            Engine::MariaDb => &["--gtid-strict-mode=OFF", "--binlog-annotate-row-events=ON"],
            Engine::MySql => &[
                "--gtid-mode=OFF",
                "--enforce-gtid-consistency=OFF",
                "--binlog-rows-query-log-events=ON",
            ],
        };
        let wrong = WRONG.iter().chain(more);
        let options = wrong.fold(ServerOptions::new(engine), |options, one| {
            options.argument(one)
        });
        let server = Server::start(options).await?;
        let account = format!(
            "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
             GRANT ALL ON freehold.* TO '{USER}'@'%'"
        );
        server.connect().await?.run(&account).await?;
        let shard = Shard {
            name: "a".to_owned(),
            master: server.dsn(&Login::new(USER, PASSWORD)),
            replicas: Vec::new(),
        };
        let router = Router::configure(&[shard], "")?;
        Ok(Self { server, router })
    }

    async fn doctor(&self) -> Result<Found> {
        let answer = self.router.with_config(&["doctor", "--json"]).await?;
        let said: Value = serde_json::from_str(&answer.stdout)?;
        let findings = said["findings"].as_array().ok_or("no findings")?.clone();
        let errors = findings.iter().any(|one| one["severity"] == "error");
        assert_eq!(answer.code, Some(i32::from(errors)), "{said}");
        Ok(Found(findings))
    }

    /// Runs every statement, as somebody with all rights.
    async fn mend(&self, found: &Found) -> Result<()> {
        for statement in found.statements() {
            self.server.connect().await?.run(statement).await?;
        }
        Ok(())
    }
}

impl Found {
    fn topics(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .filter_map(|one| one["what"].as_str())
            .collect()
    }

    fn mends(&self) -> impl Iterator<Item = &str> {
        let mends = self.0.iter().filter_map(|one| one["mend"].as_array());
        mends.flatten().filter_map(Value::as_str)
    }

    fn statements(&self) -> impl Iterator<Item = &str> {
        self.mends().filter(|mend| mend.ends_with(';'))
    }

    /// Lines of `my.cnf` as options of the server.
    fn options(&self) -> Vec<String> {
        let lines = self.mends().filter_map(|mend| {
            let line = mend.strip_prefix("my.cnf, [mysqld]: ")?;
            let (name, value) = line.split_once(" = ")?;
            let value = value.split("   (").next()?.trim_matches('\'');
            Some(format!("--{name}={value}"))
        });
        lines.collect()
    }
}

async fn a_server_that_is_set_wrong_is_mended_by_what_doctor_says(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine).await?;
    let closed = match engine {
        Engine::MariaDb => "SET GLOBAL read_only = ON",
        Engine::MySql => "SET GLOBAL super_read_only = ON",
    };
    scene.server.connect().await?.run(closed).await?;
    let found = scene.doctor().await?;
    let mut expected = BTreeSet::from(FOUND);
    expected.extend(match engine {
        Engine::MariaDb => &[
            "binlog_annotate_row_events",
            "gtid_strict_mode",
            "read_only",
        ][..],
        Engine::MySql => &[
            "binlog_rows_query_log_events",
            "gtid_mode",
            "super_read_only",
            // How many rows wait for the purge only PROCESS shows there.
            "the sweeper's account",
        ],
    });
    assert_eq!(found.topics(), expected);
    let refused = scene.router.init().await?;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);

    scene.mend(&found).await?;
    let left = scene.doctor().await?;
    let mut expected = BTreeSet::from(["tables"]);
    if engine == Engine::MySql {
        // It takes a restart.
        expected.insert("gtid_mode");
    }
    assert_eq!(left.topics(), expected, "of a server that runs");

    // What was wrong is on its command line still; what the doctor said comes behind it.
    let options = found.options();
    scene.server.options_mut().arguments.extend(options);
    scene.server.stop().await?;
    scene.server.start_again().await?;
    let left = scene.doctor().await?;
    assert_eq!(left.topics(), BTreeSet::from(["tables"]), "after a restart");

    let init = left.mends().find(|mend| mend.starts_with("freehold init"));
    assert_eq!(init, Some("freehold init --config FILE"));
    scene.router.init().await?.success()?;
    assert_eq!(scene.doctor().await?.topics(), BTreeSet::new());
    Ok(())
}

async fn tables_and_rights_are_mended_by_what_doctor_says(engine: Engine) -> Result<()> {
    let server = Server::of(engine).await?;
    let mut sql = server.connect().await?;
    sql.run(&format!(
        "CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
         GRANT ALL ON freehold.* TO '{USER}'@'%'"
    ))
    .await?;
    let shard = Shard {
        name: "a".to_owned(),
        master: server.dsn(&Login::new(USER, PASSWORD)),
        replicas: Vec::new(),
    };
    let router = Router::configure(&[shard], "")?;
    router.init().await?.success()?;
    let scene = Scene { server, router };
    sql.run(&format!(
        "REVOKE ALL ON freehold.* FROM '{USER}'@'%';
         GRANT SELECT ON freehold.* TO '{USER}'@'%';
         ALTER TABLE store MODIFY `key` VARCHAR(512) CHARACTER SET utf8mb4 NOT NULL"
    ))
    .await?;
    let found = scene.doctor().await?;
    for what in ["collation of store.key", "the account's rights"] {
        assert!(
            found.topics().contains(what),
            "{what}: {:?}",
            found.topics()
        );
    }
    scene.mend(&found).await?;
    let left = scene.doctor().await?;
    assert_eq!(left.topics(), BTreeSet::new());
    let mut router = scene.router;
    router.serve().await?;
    router.cli(&["put", "k", "v"]).await?.success()?;
    router.cli(&["del", "k"]).await?.success()?;
    Ok(())
}

on_servers!(
    a_server_that_is_set_wrong_is_mended_by_what_doctor_says,
    tables_and_rights_are_mended_by_what_doctor_says,
);
