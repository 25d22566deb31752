//! Fixtures: real servers, real replication, the real router, and ways to break them.

mod certificates;
pub mod deploy;
mod engine;
mod error;
mod options;
mod port;
mod process;
pub mod replication;
mod server;
mod sql;
mod template;

pub use certificates::Certificates;
pub use engine::{Engine, Program};
pub use error::{Error, Result};
pub use options::{Durability, ServerOptions};
pub use port::Port;
pub use process::{Process, Signal};
pub use server::Server;
pub use sql::{Login, Sql};
