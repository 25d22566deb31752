//! One suite over every engine: whatever a store promises holds on SQLite, MariaDB and MySQL alike.
//!
//! Each module has plain `async fn`s that take a [`store::Store`] and are named for the promise
//! they check; [`on_every_engine`] makes one test per engine of each. A test has a server, or a
//! file, of its own. Scenes are set and outcomes audited with plain SQL ([`audit::Audit`]), over a
//! connection that the storage crate knows nothing of.

/// Makes the modules `sqlite`, `mariadb` and `mysql` with one test per named function.
macro_rules! on_every_engine {
    ($($name:ident),+ $(,)?) => {
        on_engine!(sqlite, &crate::store::Store::file()?, $($name),+);
        on_servers!($($name),+);
    };
}

/// Makes the modules `mariadb` and `mysql`: for what an embedded file does not have.
macro_rules! on_servers {
    ($($name:ident),+ $(,)?) => {
        on_engine!(mariadb, &crate::store::Store::server(MariaDb).await?, $($name),+);
        on_engine!(mysql, &crate::store::Store::server(MySql).await?, $($name),+);
    };
}

/// The same for functions that start servers of their own.
macro_rules! on_own_servers {
    ($($name:ident),+ $(,)?) => {
        on_engine!(mariadb, MariaDb, $($name),+);
        on_engine!(mysql, MySql, $($name),+);
    };
}

macro_rules! on_engine {
    ($module:ident, $place:expr, $($name:ident),+) => {
        mod $module {
            #[allow(unused_imports)]
            use freehold_tests::Engine::{MariaDb, MySql};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> crate::store::Result<()> {
                    super::$name($place).await
                }
            )+
        }
    };
}

mod audit;
mod bytes_exact;
mod claims;
mod expiry;
mod fence;
mod fence_locks;
mod fence_reads;
mod fence_scene;
mod init;
mod lane;
mod lease;
mod logged;
mod moves;
mod moves_open;
mod moves_rows;
mod operations;
mod rows_read;
mod scan;
mod settings;
mod store;
mod sweep;
mod time_zones;
