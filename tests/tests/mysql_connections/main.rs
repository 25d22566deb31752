//! What MySQL and MariaDB connections promise beyond what every engine does: accounts, TLS,
//! packets, and the truth about a write when its connection breaks.

/// Makes the modules `mariadb` and `mysql` with one test per named function.
macro_rules! on_servers {
    ($($name:ident),+ $(,)?) => {
        on_server!(mariadb, MariaDb, $($name),+);
        on_server!(mysql, MySql, $($name),+);
    };
}

macro_rules! on_server {
    ($module:ident, $engine:ident, $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> crate::shard::Result<()> {
                    super::$name(freehold_tests::Engine::$engine).await
                }
            )+
        }
    };
}

mod accounts;
mod broken;
mod contention;
mod facts;
mod packets;
mod shard;
mod tls;
mod writers;
