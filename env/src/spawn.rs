//! Threads and tasks.
//!
//! An **owner** is one future that owns some state and may block its thread in the disk door (journal, store): it gets a
//! named OS thread with a timer of its own in a process, and is a task of the one simulated runtime in a simulation. So
//! an owner awaits its channels (`tokio::sync`) instead of blocking on them, and then runs unchanged in both.

use cairn_core::limits::{LOOK_OUT, LOOK_OUT_CORES_MIN};
use futures::future::BoxFuture;
use std::future::Future;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The door of threads.
pub trait Spawn: Send + Sync + 'static {
    /// Starts an owner and answers the runtime that it is on; names longer than 15 bytes are cut by the kernel.
    ///
    /// # Errors
    /// No thread could be made.
    fn start_owner(&self, name: &str, body: BoxFuture<'static, ()>) -> io::Result<Handle>;

    /// How long an owner may look out for its next message before it sleeps, while messages follow each other faster than
    /// that: waking a sleeping thread costs more than most messages do. Zero where nobody gains by it.
    fn look_out(&self) -> Duration;

    /// Runs short blocking work (disk reads) beside the runtime's own threads; at once in a simulation.
    fn start_blocking(&self, job: Box<dyn FnOnce() + Send>);
}

/// The work panicked or its runtime was shut down before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a worker ended before its work was done")]
pub struct WorkerLost;

/// A started owner. Dropping it detaches; the owner ends when its channels close.
#[derive(Debug)]
pub struct Owner {
    ended: oneshot::Receiver<()>,
    runtime: Handle,
}

impl Owner {
    /// For tasks that the owner works with: they take turns with it on its thread, which saves waking one of them. They stand
    /// still while it waits for a disk, and end with it.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Waits for the end of the owner.
    ///
    /// # Errors
    /// `WorkerLost` when it panicked.
    pub async fn ended(&mut self) -> Result<(), WorkerLost> {
        (&mut self.ended).await.map_err(|_| WorkerLost)
    }
}

impl dyn Spawn {
    /// Starts an owner and tells when it has ended.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn owner(&self, name: &str, body: impl Future<Output = ()> + Send + 'static) -> io::Result<Owner> {
        let (done, ended) = oneshot::channel();
        let runtime = self.start_owner(
            name,
            Box::pin(async move {
                body.await;
                // Nobody may be waiting.
                let _ = done.send(());
            }),
        )?;
        Ok(Owner { ended, runtime })
    }

    /// Runs short blocking work and returns its result.
    ///
    /// # Errors
    /// `WorkerLost` when the work panicked.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, WorkerLost>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.start_blocking(Box::new(move || {
            // The caller may have been cancelled.
            let _ = done.send(work());
        }));
        result.await.map_err(|_| WorkerLost)
    }
}

/// Real threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSpawn;

impl Spawn for ThreadSpawn {
    fn start_owner(&self, name: &str, body: BoxFuture<'static, ()>) -> io::Result<Handle> {
        // A runtime of its own: its timers do not depend on the main one, and a blocked disk call stalls nobody else.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(body))?;
        Ok(handle)
    }

    fn look_out(&self) -> Duration {
        // With few cores it would stand in the way of those it waits for.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cores >= LOOK_OUT_CORES_MIN { LOOK_OUT } else { Duration::ZERO }
    }

    fn start_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(job));
    }
}

/// Everything on the runtime of the caller, in its deterministic order: for simulations.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskSpawn;

impl Spawn for TaskSpawn {
    fn start_owner(&self, _name: &str, body: BoxFuture<'static, ()>) -> io::Result<Handle> {
        drop(tokio::spawn(body));
        Ok(Handle::current())
    }

    /// Simulated time stands still while a task runs.
    fn look_out(&self) -> Duration {
        Duration::ZERO
    }

    fn start_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    async fn an_owner_serves_its_channel(spawn: Arc<dyn Spawn>) {
        let (requests, mut inbox) = mpsc::channel::<oneshot::Sender<u32>>(4);
        let mut owner = spawn
            .owner("counter", async move {
                let mut count = 0;
                while let Some(reply) = inbox.recv().await {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    count += 1;
                    let _ = reply.send(count);
                }
            })
            .unwrap();
        for expected in 1..=3 {
            let (reply, answer) = oneshot::channel();
            requests.send(reply).await.unwrap();
            assert_eq!(answer.await, Ok(expected));
        }
        drop(requests);
        assert_eq!(owner.ended().await, Ok(()));
    }

    #[tokio::test]
    async fn an_owner_on_a_thread_serves_its_channel() {
        an_owner_serves_its_channel(Arc::new(ThreadSpawn)).await;
    }

    #[tokio::test]
    async fn an_owner_as_a_task_serves_its_channel() {
        an_owner_serves_its_channel(Arc::new(TaskSpawn)).await;
    }

    #[tokio::test]
    async fn a_panic_of_blocking_work_is_told() {
        let spawn: Arc<dyn Spawn> = Arc::new(ThreadSpawn);
        assert_eq!(spawn.blocking(|| 7).await, Ok(7));
        assert_eq!(spawn.blocking(|| if true { panic!("as wanted") } else { 7 }).await, Err(WorkerLost));
    }
}
