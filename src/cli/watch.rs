//! Whether files have changed, found out by looking from time to time.
//!
//! Looking works where notifications don't: on network file systems, and where a directory of links is exchanged as a whole, as
//! Kubernetes does it with the files of a ConfigMap.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Some files, as they were when they were looked at last.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

/// What changes with a file's content: when it was written, how long it is, and which file it is.
type Stamp = (Option<SystemTime>, u64, u64);

impl Watch {
    /// Looks at the files. What is written from here on is a change, so this comes before reading them.
    pub(super) fn new(files: Vec<PathBuf>) -> Watch {
        Watch { seen: stamps(&files), files }
    }

    /// Looks at these files from now on. Of those that it looked at before, it goes on from what it saw last.
    pub(super) fn follow(&mut self, files: Vec<PathBuf>) {
        let before = |file: &PathBuf| self.files.iter().position(|known| known == file).map(|place| self.seen[place]);
        self.seen = files.iter().map(|file| before(file).unwrap_or_else(|| stamp(file))).collect();
        self.files = files;
    }

    /// Looks again.
    pub(super) async fn look(&mut self) {
        self.seen = self.present().await;
    }

    /// Ends when a file is another than it was, has come or gone, and stayed the same for a moment: who writes it may not have ended.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.present().await;
            if now == self.seen {
                continue;
            }
            self.seen = now;
            loop {
                tokio::time::sleep(SETTLED_AFTER).await;
                let again = self.present().await;
                if again == self.seen {
                    return;
                }
                self.seen = again;
            }
        }
    }
}

impl Watch {
    /// How the files are now. A file system that hangs must not hold up requests, so this is for a thread of its own.
    async fn present(&self) -> Vec<Option<Stamp>> {
        let files = self.files.clone();
        let looked = tokio::task::spawn_blocking(move || stamps(&files)).await;
        looked.unwrap_or_else(|_| self.seen.clone())
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(stamp).collect()
}

fn stamp(file: &PathBuf) -> Option<Stamp> {
    fs::metadata(file).ok().map(|it| (it.modified().ok(), it.len(), it.ino()))
}

/// Soon enough for a person who waits for it; two system calls a second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An editor or a copy writes a file of this size in far less.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
