//! The thread behind a connection. SQLite blocks, and a request must not: each call is one message
//! to the thread and one reply.

use std::{path::PathBuf, thread};

use tokio::sync::{mpsc, oneshot};

use super::{error::unreachable, session::Session};
use crate::error::StorageError;

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A thread with an open file. It ends when this is dropped, after the job it is at.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread and waits until it has opened the file.
    pub(super) async fn start(path: PathBuf) -> Result<Self, StorageError> {
        // A connection makes one call at a time.
        let (jobs, queue) = mpsc::channel(1);
        let (opened, is_open) = oneshot::channel();
        let file = path.clone();
        thread::Builder::new()
            .name("sqlite".to_owned())
            .spawn(move || match Session::open(&file) {
                Ok(session) => {
                    if opened.send(Ok(())).is_ok() {
                        work(session, queue);
                    }
                }
                // Whoever gave up waiting wants no answer.
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|error| unreachable(&path, &error))?;
        is_open
            .await
            .map_err(|error| unreachable(&path, &error))??;
        Ok(Self { jobs })
    }

    /// Does `job` on the thread.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |session| drop(reply.send(job(session))));
        let ended = "the thread of this connection ended";
        self.jobs
            .send(job)
            .await
            .map_err(|_| StorageError::Unreachable {
                reason: ended.into(),
            })?;
        answer.await.map_err(|_| StorageError::Lost {
            reason: ended.into(),
        })
    }
}

fn work(mut session: Session, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        job(&mut session);
    }
}
