//! Decides whether what clients saw keeps what Freehold promises.
//!
//! It reads a recorded history (JSON lines, [`record`]) and nothing else: no code of the product, no
//! database. The path of a history through the files:
//!
//! - [`record`]: what a line can say: operations, scans, rows of the final audit, clock samples,
//!   faults, pauses of the machine.
//! - [`history`]: all lines of a run, operations by key, and how far the databases' clocks moved.
//! - [`register`]: the model, one key: what an operation may answer in which state. Expiry is a
//!   timed event: a state carries the earliest and the latest instant at which it can end.
//! - [`linearize`]: whether the STRONG operations of a key have an order that real time and the
//!   model allow. The search is Wing and Gong's in Lowe's just-in-time form: one pass over the
//!   returns, with the set of all configurations that are still possible. Outcomes that are unknown
//!   stay open to the end.
//! - [`shrink`]: the shortest part of an illegal history that is still illegal by itself.
//! - [`reads`]: values that nobody wrote, weak reads that are older than they may be, sessions that
//!   do not see what they wrote or read.
//! - [`scans`]: each key that lives throughout is seen exactly once.
//! - [`audit`]: each key on one master, its owner, in the rows that were read by SQL at the end.
//! - [`endings`]: every request ends by its deadline, with a status of the table, and by a word of a
//!   router.
//! - [`verdict`]: all of it together; [`timeline`] draws a key as HTML.
//!
//! A search that meets its bound of steps or memory ends as *undecided*, which is never a pass.
//!
//! ```
//! use freehold_checker::{History, check};
//!
//! let lines = r#"
//! {"kind":"operation","id":0,"client":1,"key":"k","start_ns":0,"end_ns":10,"action":{"put":{"value":"a"}},"outcome":"applied"}
//! {"kind":"operation","id":1,"client":2,"key":"k","start_ns":20,"end_ns":30,"action":{"get":{"seen":{"live":false}}},"outcome":"applied"}
//! "#;
//! let history = History::read(lines.as_bytes()).unwrap();
//! let verdict = check(&history);
//! assert!(!verdict.is_clean());
//! assert!(verdict.violations[0].message.contains("absent"));
//! ```

pub mod audit;
pub mod endings;
pub mod history;
pub mod linearize;
pub mod reads;
pub mod record;
pub mod register;
pub mod scans;
pub mod shrink;
pub mod timeline;
pub mod verdict;

pub use history::History;
pub use record::Record;
pub use verdict::{Check, Limits, Verdict, Violation, check};
