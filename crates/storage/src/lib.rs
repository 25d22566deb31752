//! One shard's store behind one seam: MySQL, MariaDB and embedded SQLite.
//!
//! In the order of a request: [`dsn`] says where a server is, [`server`] opens connections to it,
//! [`data`] is what a lane asks of a connection, in [`row`]s, and [`error`] is what can come of it.
//! Beside the requests stand [`watch`], for heartbeats and the state of replication, [`sweep`], for
//! deleting what expired, [`audit`], for comparing servers, [`schema`], for creating, migrating and
//! judging a server, [`moves`], for moving slots to another shard, and [`promotion`], for finding the
//! server that leads a shard. [`mysql`] and [`sqlite`] are the two implementations; one
//! conformance suite in `tests/` holds both to the same promises.

pub mod audit;
pub mod data;
pub mod dsn;
pub mod error;
pub mod moves;
pub mod mysql;
pub mod other;
pub mod promotion;
mod range;
pub mod row;
pub mod schema;
pub mod server;
pub mod sqlite;
pub mod sweep;
pub mod watch;

pub use audit::AuditConnection;
pub use data::DataConnection;
pub use dsn::{Dsn, DsnError};
pub use error::{Outcome, Refusal, StorageError};
pub use moves::MoveConnection;
pub use other::OtherServer;
pub use promotion::{Copying, GroupMember, Part, PromotionConnection};
pub use row::{
    Columns, ExpireRow, Inspected, PutRow, RawRow, Read, Row, ScanPage, ScanRange, Value, Write,
};
pub use schema::SchemaConnection;
pub use server::{ConnectOptions, Server, WriterName};
pub use sweep::SweepConnection;
pub use watch::WatchConnection;
