//! The shards of a first minute: four SQLite files in a folder, created at once.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use freehold_storage::Dsn;

use crate::{config::ShardConfig, exit::Failure};

/// Their names, and their files'.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The shards of a folder.
pub(crate) fn shards(folder: &Path) -> Vec<ShardConfig> {
    NAMES
        .iter()
        .map(|name| ShardConfig {
            name: (*name).to_owned(),
            master: Dsn::sqlite(folder.join(format!("shard-{name}.sqlite"))),
            replicas: Vec::new(),
        })
        .collect()
}

/// Holds a folder for one server, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Creates the folder if it is missing, and takes it.
    pub(crate) fn take(folder: &Path) -> Result<Self, Failure> {
        let cannot = |error| Failure::io(format!("cannot use {}", folder.display()), error);
        fs::create_dir_all(folder).map_err(cannot)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::Serve(format!(
                "another freehold serves {} already: stop it, or name another folder with --data",
                folder.display()
            ))),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }
}
