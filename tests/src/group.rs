//! A replication group of MySQL servers with a single primary, set up by the files of `deploy/`.

use crate::deploy;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::ServerOptions;
use crate::port::Port;
use crate::server::Server;
use crate::waiting::until;

/// Three survive the death of one.
pub const MEMBERS: usize = 3;

const NAME: &str = "5a1f0a3e-8c5b-4d5e-9a53-6f1d3c2b7e10";

/// The members, and the ports by which they talk to each other.
#[derive(Debug)]
pub struct Group {
    /// In no order: any of them may be the primary.
    pub members: Vec<Server>,
    _ports: Vec<Port>,
}

impl Group {
    /// Starts three servers and makes them a group, of which the first one is the primary.
    pub async fn start() -> Result<Self> {
        let ports: Vec<Port> = (0..MEMBERS).map(|_| Port::claim()).collect::<Result<_>>()?;
        let seeds: Vec<String> = ports
            .iter()
            .map(|port| port.address().to_string())
            .collect();
        let settings = settings()?;
        let start = |place: usize| {
            let mut options = ServerOptions::new(Engine::MySql);
            options.arguments = settings.clone();
            options.arguments.extend([
                format!("--loose-group-replication-group-name={NAME}"),
                format!("--loose-group-replication-group-seeds={}", seeds.join(",")),
                format!("--loose-group-replication-local-address={}", seeds[place]),
                "--report-host=127.0.0.1".to_owned(),
                // Of the usual 5 s more, which are for networks that stutter, two for busy machines.
                "--loose-group-replication-member-expel-timeout=2".to_owned(),
            ]);
            Server::start(options)
        };
        let (first, second, third) = tokio::try_join!(start(0), start(1), start(2))?;
        let group = Self {
            members: vec![first, second, third],
            _ports: ports,
        };
        let account = [
            ("REPLICATION_USER", "group_member"),
            ("REPLICATION_PASSWORD", "group-member-password"),
        ];
        let member = deploy::sql(Engine::MySql, "group-member.sql", &account)?;
        for server in &group.members {
            let mut sql = server.connect().await?;
            // The file's settings close a server before it is a member.
            sql.run("SET GLOBAL super_read_only = OFF").await?;
            sql.run(&member).await?;
            sql.run("SET GLOBAL super_read_only = ON").await?;
        }
        let mut first = group.members[0].connect().await?;
        first
            .run("SET GLOBAL group_replication_bootstrap_group = ON")
            .await?;
        first.run("START GROUP_REPLICATION").await?;
        first
            .run("SET GLOBAL group_replication_bootstrap_group = OFF")
            .await?;
        for place in 1..MEMBERS {
            group.join(place).await?;
        }
        Ok(group)
    }

    /// Has a member join, and waits until it has everything.
    pub async fn join(&self, place: usize) -> Result<()> {
        let mut sql = self.members[place].connect().await?;
        sql.run("START GROUP_REPLICATION").await?;
        let waited = until("the member to be online", async || {
            let state: Option<String> = sql.first(OWN_STATE).await?;
            Ok(state.as_deref() == Some("ONLINE"))
        });
        waited.await.map_err(|error| Error::Process {
            program: format!("member on port {}", self.members[place].port()),
            message: format!("{error}\n{}", self.members[place].log()),
        })
    }

    /// The place of the primary, as a member that runs sees it.
    pub async fn primary(&self, seen_by: usize) -> Result<Option<usize>> {
        let mut sql = self.members[seen_by].connect().await?;
        let port: Option<u16> = sql.first(PRIMARY).await?;
        Ok(self
            .members
            .iter()
            .position(|member| Some(member.port()) == port))
    }
}

const OWN_STATE: &str = "SELECT member_state FROM performance_schema.replication_group_members \
                         WHERE member_id = @@GLOBAL.server_uuid";

const PRIMARY: &str = "SELECT member_port FROM performance_schema.replication_group_members \
                       WHERE member_role = 'PRIMARY' AND member_state = 'ONLINE'";

/// The lines of `group.cnf` as options: a server reads one file.
fn settings() -> Result<Vec<String>> {
    let path = deploy::file(Engine::MySql, "group.cnf");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    Ok(lines
        .map(|line| format!("--{}", line.replace(" = ", "=")))
        .collect())
}
