//! Reads are exactly as fresh as they ask to be, whatever happens to replication meanwhile.
//!
//! A [`scene::Cluster`] has two shards with two replicas each, and two routers. [`lags`] makes its
//! replicas lag in every way that replication knows; what is read is judged by what the readers
//! wrote themselves, and by their own clock.
//!
//! Each test prints what it asked for, under which faults, with which seed, and who answered. CI
//! makes a share of the reads; all of them take one command:
//!
//! ```text
//! FREEHOLD_TEST_READS=1000000 FREEHOLD_TEST_SEED=1 tests/run nextest -- -E 'binary(consistency)'
//! ```

/// Makes the modules `mariadb` and `mysql` with one test per named function.
macro_rules! on_servers {
    ($($name:ident),+ $(,)?) => {
        on_engine!(mariadb, MariaDb, $($name),+);
        on_engine!(mysql, MySql, $($name),+);
    };
}

macro_rules! on_engine {
    ($module:ident, $engine:ident, $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> crate::scene::Result<()> {
                    super::$name(freehold_tests::Engine::$engine).await
                }
            )+
        }
    };
}

mod faults;
mod figures;
mod lags;
mod lost;
mod scene;
mod shares;
mod states;
