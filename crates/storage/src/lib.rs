//! One shard's store behind one seam: MySQL, MariaDB and embedded SQLite.
//!
//! In the order of a request: [`dsn`] says where a server is, [`server`] opens connections to it,
//! [`data`] is what a lane asks of a connection, in [`row`]s, and [`error`] is what can come of it.
//! Beside the requests stand [`sweep`], for deleting what expired, and [`schema`], for creating,
//! migrating and judging a server. [`mysql`] and [`sqlite`] are the two implementations; one
//! conformance suite in `tests/` holds both to the same promises.

pub mod data;
pub mod dsn;
pub mod error;
pub mod mysql;
mod range;
pub mod row;
pub mod schema;
pub mod server;
pub mod sqlite;
pub mod sweep;

pub use data::DataConnection;
pub use dsn::{Dsn, DsnError};
pub use error::{Outcome, Refusal, StorageError};
pub use row::{
    Columns, ExpireRow, Inspected, PutRow, RawRow, Read, Row, ScanPage, ScanRange, Value,
};
pub use schema::SchemaConnection;
pub use server::{ConnectOptions, Server, WriterName};
pub use sweep::SweepConnection;
