//! Where a request runs: its first step on the thread that received it, the rest on the runtime.
//!
//! What is at hand is answered without a hand-over (each costs ~25 µs between cores); what must wait never holds the
//! receiving thread. It becomes a task only when what it waits for has come, so that nobody is woken in vain. A panic in one request ends that request with EIO and nothing else.

use crate::errno::is_failure;
use crate::respond::Respond;
use cairn_core::error::FsError;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::runtime::Handle;
use tracing::{Instrument, Span};

/// Starts `operation` and sees that its outcome reaches `reply`, exactly once (a dropped reply sends EIO itself).
pub(crate) fn start<T: Send + 'static>(
    runtime: &Handle,
    span: Span,
    operation: impl Future<Output = Result<T, FsError>> + Send + 'static,
    reply: impl Respond<T>,
) {
    let task = async move {
        let outcome = operation.await;
        if let Some(error) = outcome.as_ref().err().filter(|error| is_failure(error)) {
            tracing::warn!(%error, "request failed");
        }
        reply.respond(outcome);
    };
    step(runtime, Box::pin(task.instrument(span)));
}

fn step(runtime: &Handle, mut task: Pin<Box<impl Future<Output = ()> + Send + 'static>>) {
    let _runtime = runtime.enter();
    let parked =
        Arc::new(Parked { task: Mutex::new(None), woken: AtomicBool::new(false), runtime: runtime.clone() });
    let waker = Waker::from(parked.clone());
    let mut slot = parked.task.lock().unwrap_or_else(PoisonError::into_inner);
    match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker)))) {
        Ok(Poll::Ready(())) => {}
        Ok(Poll::Pending) => {
            *slot = Some(task);
            drop(slot);
            if parked.woken.load(Ordering::SeqCst) {
                parked.resume();
            }
        }
        Err(_) => tracing::error!("a request panicked; its caller got EIO"),
    }
}

/// A request after its first step, until it is woken for the first time.
struct Parked<F> {
    /// Locked during the first step.
    task: Mutex<Option<Pin<Box<F>>>>,
    woken: AtomicBool,
    runtime: Handle,
}

impl<F: Future<Output = ()> + Send + 'static> Parked<F> {
    /// Makes it a task, unless it is one or the first step still runs, which looks at `woken` afterwards.
    fn resume(&self) {
        let task = self.task.try_lock().ok().and_then(|mut slot| slot.take());
        if let Some(task) = task {
            // Polling again under another waker is part of the contract of futures.
            drop(self.runtime.spawn(task));
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Wake for Parked<F> {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.resume();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    struct Answer(Sender<Result<u32, FsError>>);

    impl Respond<u32> for Answer {
        fn respond(self, outcome: Result<u32, FsError>) {
            self.0.send(outcome).unwrap();
        }
    }

    fn run(
        operation: impl Future<Output = Result<u32, FsError>> + Send + 'static,
    ) -> Receiver<Result<u32, FsError>> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (sender, receiver) = channel();
        start(runtime.handle(), Span::none(), operation, Answer(sender));
        let first = receiver.recv_timeout(Duration::from_secs(5));
        let (sender, receiver) = channel();
        if let Ok(first) = first {
            sender.send(first).unwrap();
        }
        runtime.shutdown_background();
        receiver
    }

    #[test]
    fn what_is_at_hand_is_answered_on_the_receiving_thread() {
        let here = std::thread::current().id();
        let answers = run(async move { Ok(u32::from(std::thread::current().id() == here)) });
        assert_eq!(answers.recv().unwrap(), Ok(1));
    }

    #[test]
    fn what_must_wait_goes_on_elsewhere() {
        let here = std::thread::current().id();
        let answers = run(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(u32::from(std::thread::current().id() == here))
        });
        assert_eq!(answers.recv().unwrap(), Ok(0));
    }

    #[test]
    fn a_wake_during_the_first_step_is_not_lost() {
        let answers = run(async move {
            tokio::task::yield_now().await;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::Ready(())
            })
            .await;
            Ok(7)
        });
        assert_eq!(answers.recv().unwrap(), Ok(7));
        for _ in 0..1000 {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let waker = std::thread::spawn(move || sender.send(7).unwrap());
            assert_eq!(run(async move { Ok(receiver.await.unwrap()) }).recv().unwrap(), Ok(7));
            waker.join().unwrap();
        }
    }

    #[test]
    fn a_panic_ends_one_request_only() {
        assert!(run(async { panic!("at once") }).recv().is_err(), "the reply was dropped, not sent");
    }
}
