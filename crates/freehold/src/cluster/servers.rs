//! The servers of a config, ready to be connected to.

use std::time::Duration;

use freehold_storage::{
    ConnectOptions, Dsn, Server,
    dsn::{Password, Target},
};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    args::AccountArgs,
    config::{MoverSection, ShardConfig, SweeperSection},
};

/// The servers of one shard.
#[derive(Debug, Clone)]
pub(crate) struct ShardServers {
    pub(crate) name: String,
    pub(crate) master: Server,
    pub(crate) replicas: Vec<Server>,
    /// The schema that holds the tables; `None` for an embedded file.
    pub(crate) database: Option<String>,
}

impl From<ShardServers> for freehold_mover::Shard {
    fn from(shard: ShardServers) -> Self {
        Self {
            name: shard.name,
            servers: [vec![shard.master], shard.replicas].concat(),
        }
    }
}

/// An account that is used instead of the one in each DSN.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) password: Password,
}

impl Account {
    /// The account of the command line, if it names one.
    pub(crate) fn of_args(args: &AccountArgs) -> Option<Self> {
        let password = match (&args.password_file, &args.password_env) {
            (Some(file), _) => Password::File(file.clone()),
            (None, Some(variable)) => Password::Env(variable.clone()),
            (None, None) => Password::None,
        };
        Some(Self {
            user: args.user.clone()?,
            password,
        })
    }

    /// The account of `[sweeper]`, if it names one.
    pub(crate) fn of_sweeper(section: &SweeperSection) -> Option<Self> {
        let SweeperSection {
            user,
            password_file,
            password_env,
            ..
        } = section;
        Self::of_section(user.as_ref(), password_file.as_ref(), password_env.as_ref())
    }

    /// The account of `[mover]`, if it names one.
    pub(crate) fn of_mover(section: &MoverSection) -> Option<Self> {
        let MoverSection {
            user,
            password_file,
            password_env,
            ..
        } = section;
        Self::of_section(user.as_ref(), password_file.as_ref(), password_env.as_ref())
    }

    fn of_section(
        user: Option<&String>,
        password_file: Option<&String>,
        password_env: Option<&String>,
    ) -> Option<Self> {
        let password = match (password_file, password_env) {
            (Some(file), _) => Password::File(file.into()),
            (None, Some(variable)) => Password::Env(variable.clone()),
            (None, None) => Password::None,
        };
        Some(Self {
            user: user?.clone(),
            password,
        })
    }

    pub(crate) fn apply(account: Option<&Self>, dsn: &Dsn) -> Dsn {
        account.map_or_else(
            || dsn.clone(),
            |account| {
                dsn.clone()
                    .with_account(&account.user, account.password.clone())
            },
        )
    }
}

/// Prepares every server without connecting.
pub(crate) fn servers(
    shards: &[ShardConfig],
    account: Option<&Account>,
    connect_timeout: Duration,
    random: &mut StdRng,
) -> Vec<ShardServers> {
    let mut server = |dsn: &Dsn| {
        let options = ConnectOptions {
            connect_timeout,
            seed: random.next_u64(),
        };
        Server::new(&Account::apply(account, dsn), options)
    };
    shards
        .iter()
        .map(|shard| ShardServers {
            name: shard.name.clone(),
            master: server(&shard.master),
            replicas: shard.replicas.iter().map(&mut server).collect(),
            database: match shard.master.target() {
                Target::Mysql(target) => Some(target.database.clone()),
                Target::Sqlite(_) => None,
            },
        })
        .collect()
}
