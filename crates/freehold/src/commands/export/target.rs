//! Where lines go.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::exit::Failure;

/// A file, or standard output. A file has another name until it is complete, so that a broken export
/// is never taken for a whole one. What is no file (a pipe, a device) is written to as it is.
pub(super) enum Target {
    Stdout(io::Stdout),
    Other(File),
    File {
        file: File,
        partial: PathBuf,
        path: PathBuf,
    },
}

impl Target {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        // A link goes on leading where it leads.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            let other = File::options().write(true).open(&path);
            return other.map(Self::Other).map_err(|error| {
                Failure::io(format!("cannot write to {}", path.display()), error)
            });
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)
            .map_err(|error| Failure::io(format!("cannot create {}", partial.display()), error))?;
        Ok(Self::File {
            file,
            partial,
            path,
        })
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let written = tokio::task::block_in_place(|| match self {
            Self::Stdout(stdout) => stdout.write_all(lines).and_then(|()| stdout.flush()),
            Self::File { file, .. } | Self::Other(file) => file.write_all(lines),
        });
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("cannot write the export", error),
        })
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        let Self::File {
            file,
            partial,
            path,
        } = self
        else {
            return Ok(());
        };
        file.sync_all()
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| Failure::io(format!("cannot complete {}", path.display()), error))
    }
}
