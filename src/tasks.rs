//! Background work and the end of a process' life: who still works, who is to stop, and when.

use std::future::Future;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The owner of all background work. Clones are handles to the same.
///
/// A life ends in three steps: [`leave`](Tasks::leave) makes the process unready while it still takes requests,
/// [`close`](Tasks::close) takes no new connections, [`drain`](Tasks::drain) waits for what is under way.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    accepting: TaskTracker,
    finite: TaskTracker,
    leaving: CancellationToken,
    closing: CancellationToken,
    stopping: CancellationToken,
}

impl Tasks {
    /// Spawns work that ends by itself; a drain waits for it.
    pub fn spawn<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.finite.spawn(work);
    }

    /// Does work to its end, also if whoever waits for it goes away; a drain waits for it. `None` if it panicked.
    pub async fn finish<T, F>(&self, work: F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.spawn(async move {
            let _ = done.send(work.await);
        });
        result.await.ok()
    }

    /// Spawns what takes new connections until `closing`; a drain waits for its end before it waits for the rest.
    pub fn spawn_accepting<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.accepting.spawn(work);
    }

    /// Spawns work that goes on until everything stops, at which point it is dropped.
    pub fn spawn_until_stop<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// A handle for who serves to the last: it closes when everything stops, and no drain waits for its work.
    pub fn to_the_last(&self) -> Tasks {
        let stopping = &self.stopping;
        Tasks {
            accepting: TaskTracker::new(),
            finite: TaskTracker::new(),
            leaving: stopping.clone(),
            closing: stopping.clone(),
            stopping: stopping.clone(),
        }
    }

    /// Makes the process unready.
    pub fn leave(&self) {
        self.leaving.cancel();
    }

    /// Whether the process still wants new work.
    pub fn is_ready(&self) -> bool {
        !self.leaving.is_cancelled()
    }

    /// Takes no new connections, and asks those that are open to end after what they are doing.
    pub fn close(&self) {
        self.leaving.cancel();
        self.closing.cancel();
    }

    /// Ends when the process wants no new work.
    pub async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// Ends when no new connections are to be taken.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until the finite work has ended, for at most `limit`, and then stops the rest. Says whether all ended in time.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.close();
        self.accepting.close();
        self.finite.close();
        let end = async {
            // What came in the last moment is work, too.
            self.accepting.wait().await;
            self.finite.wait().await;
        };
        let all_ended = tokio::time::timeout(limit, end).await.is_ok();
        self.stopping.cancel();
        all_ended
    }

    /// How many pieces of finite work are under way.
    pub fn under_way(&self) -> usize {
        self.finite.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_finite_work_and_ends_the_rest() {
        let tasks = Tasks::default();
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _ = ended.await;
        });
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn_until_stop(async move {
            let _alive = alive;
            std::future::pending().await
        });
        assert!(tasks.is_ready());
        let last = tasks.to_the_last();
        let (_serving, served) = tokio::sync::oneshot::channel::<()>();
        last.spawn(async move {
            let _ = served.await;
        });
        tasks.close();
        assert!(tokio::time::timeout(Duration::from_millis(5), last.closing()).await.is_err());
        assert!(!tasks.drain(Duration::from_millis(5)).await);
        assert!(!tasks.is_ready());
        assert!(dropped.await.is_err());
        last.closing().await;
        done.send(()).unwrap();
        assert!(tasks.drain(Duration::from_secs(5)).await);
    }
}
