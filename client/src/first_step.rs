//! Work whose first step is done where it was asked for: its frames and requests leave at once, and only what must wait for
//! an answer goes to another thread (a hand-over between cores costs ~25 µs).

use futures::FutureExt;
use std::future::Future;
use tokio::task::JoinHandle;

/// Work that was begun.
pub(crate) enum Begun<T> {
    /// It needed no waiting.
    Done(T),
    /// It goes on by itself, whoever waits for it.
    GoesOn(JoinHandle<T>),
}

/// Takes the first step of `work` here; the rest is a task of its own. Must be called within the runtime.
pub(crate) fn begin<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Begun<T> {
    let mut work = Box::pin(work);
    // Polling again under another waker is part of the contract of futures.
    match (&mut work).now_or_never() {
        Some(done) => Begun::Done(done),
        None => Begun::GoesOn(tokio::spawn(work)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_needs_no_waiting_is_done_here() {
        assert!(matches!(begin(async { 7 }), Begun::Done(7)));
    }

    #[tokio::test]
    async fn what_waits_goes_on_without_its_caller() {
        let (go, started) = oneshot::channel::<u32>();
        let (done, outcome) = oneshot::channel();
        let begun = begin(async move {
            done.send(started.await).unwrap();
        });
        let Begun::GoesOn(task) = begun else { panic!("nothing was sent yet") };
        drop(task);
        go.send(7).unwrap();
        assert_eq!(outcome.await.unwrap(), Ok(7));
    }
}
