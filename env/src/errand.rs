//! Errands: work whose first steps are made where it was asked for, so that its messages leave at once, and which needs
//! nobody's attention afterwards.
//!
//! It becomes a task of the runtime only when what it waits for has come: until then nobody is woken for it in vain. A thread that
//! [waits awake](Attention) goes on with what it wakes itself, without any hand-over (each costs ~25 µs between cores).

use crate::spawn::WorkerLost;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// Work that was begun.
pub enum Begun<T> {
    /// It needed no waiting; or it panicked.
    Done(Result<T, WorkerLost>),
    /// It goes on by itself, whoever waits for it. The channel closes without a word if it panicks.
    GoesOn(oneshot::Receiver<T>),
}

impl<T> Begun<T> {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// The work panicked, or its runtime was shut down before it ended.
    pub async fn outcome(self) -> Result<T, WorkerLost> {
        match self {
            Self::Done(outcome) => outcome,
            Self::GoesOn(outcome) => outcome.await.map_err(|_| WorkerLost),
        }
    }
}

/// Takes the first step of `work` here; the rest happens by itself. Must be called within a runtime.
pub fn begin<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Begun<T> {
    let (done, mut outcome) = oneshot::channel();
    start(async move {
        // Nobody may be waiting.
        let _ = done.send(work.await);
    });
    match outcome.try_recv() {
        Ok(done) => Begun::Done(Ok(done)),
        Err(TryRecvError::Closed) => Begun::Done(Err(WorkerLost)),
        Err(TryRecvError::Empty) => Begun::GoesOn(outcome),
    }
}

/// As [`begin`], for work that says itself how it ends. A panic ends it and nothing else.
pub fn start(work: impl Future<Output = ()> + Send + 'static) -> Arc<dyn Errand> {
    let parked = Arc::new(Parked {
        work: Mutex::new(Some(Box::pin(work))),
        woken: AtomicBool::new(false),
        left: AtomicBool::new(false),
        runtime: Handle::current(),
    });
    parked.clone().step();
    parked
}

/// Work under way.
pub trait Errand: Send + Sync {
    /// Whether it has ended, or has become a task.
    fn has_left(&self) -> bool;
    /// Goes on with it here.
    fn step(self: Arc<Self>);
    /// Makes it a task of the runtime, unless it is one, or is gone on with just now.
    fn leave(&self);
}

/// Work that wakes itself while it makes a step (sets of futures do, to let others go first) is gone on with so often.
const STEPS_AT_ONCE: u32 = 3;

type Work<F> = Pin<Box<F>>;

/// An errand while it waits.
struct Parked<F> {
    /// Taken out while a step is made, and for good when it has become a task or has ended.
    work: Mutex<Option<Work<F>>>,
    woken: AtomicBool,
    left: AtomicBool,
    runtime: Handle,
}

impl<F: Future<Output = ()> + Send + 'static> Parked<F> {
    fn take(&self) -> Option<Work<F>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F: Future<Output = ()> + Send + 'static> Errand for Parked<F> {
    fn has_left(&self) -> bool {
        self.left.load(SeqCst)
    }

    fn step(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        for _ in 0..STEPS_AT_ONCE {
            let Some(mut work) = self.take() else { return };
            self.woken.store(false, SeqCst);
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&waker)))) {
                Ok(Poll::Pending) => *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(work),
                Ok(Poll::Ready(())) => return self.left.store(true, SeqCst),
                Err(_) => {
                    tracing::error!("a piece of work panicked; whoever waits for it gets an error");
                    return self.left.store(true, SeqCst);
                }
            }
            // A wake meanwhile found nothing to go on with.
            if !self.woken.load(SeqCst) {
                return;
            }
        }
        attend_or_leave(self);
    }

    fn leave(&self) {
        if let Some(work) = self.take() {
            self.left.store(true, SeqCst);
            // Polling again under another waker is part of the contract of futures.
            drop(self.runtime.spawn(work));
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Wake for Parked<F> {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, SeqCst);
        attend_or_leave(self);
    }
}

thread_local! {
    /// What was woken by this thread while it waits awake.
    static WOKEN: RefCell<Option<VecDeque<Arc<dyn Errand>>>> = const { RefCell::new(None) };
}

fn attend_or_leave(errand: Arc<dyn Errand>) {
    let left = WOKEN.with_borrow_mut(|woken| match woken {
        Some(woken) => {
            woken.push_back(errand);
            None
        }
        None => Some(errand),
    });
    if let Some(errand) = left {
        errand.leave();
    }
}

/// A thread that waits awake: errands that it wakes are gone on with here, until this is dropped. Not to be nested.
pub struct Attention(());

impl Attention {
    /// From now on.
    pub fn begin() -> Self {
        WOKEN.set(Some(VecDeque::new()));
        Self(())
    }

    /// Goes on with all that was woken.
    pub fn work(&self) {
        while let Some(errand) = WOKEN.with_borrow_mut(|woken| woken.as_mut()?.pop_front()) {
            errand.step();
        }
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        for errand in WOKEN.take().into_iter().flatten() {
            errand.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;
    use std::time::Duration;

    fn here() -> ThreadId {
        std::thread::current().id()
    }

    #[tokio::test]
    async fn what_needs_no_waiting_is_done_here() {
        assert!(matches!(begin(async { 7 }), Begun::Done(Ok(7))));
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

    #[tokio::test]
    async fn a_wake_during_a_step_is_not_lost() {
        let yields = || async {
            tokio::task::yield_now().await;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::Ready(())
            })
            .await;
            7
        };
        let Begun::GoesOn(outcome) = begin(yields()) else { panic!("it yields") };
        assert_eq!(outcome.await, Ok(7));
        for _ in 0..1000 {
            let (sender, receiver) = oneshot::channel();
            let waker = std::thread::spawn(move || sender.send(7).unwrap());
            assert_eq!(begin(async move { receiver.await.unwrap() }).outcome().await, Ok(7));
            waker.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_panic_ends_one_errand_only() {
        let fails = || if true { panic!("as wanted") } else { 7 };
        assert_eq!(begin(async move { fails() }).outcome().await, Err(WorkerLost));
        let later = begin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            fails()
        });
        assert_eq!(later.outcome().await, Err(WorkerLost));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_thread_that_waits_awake_goes_on_with_what_it_wakes() {
        let both = tokio::task::spawn_blocking(|| {
            let (go, started) = oneshot::channel::<()>();
            let (again, restarted) = oneshot::channel::<()>();
            let inner = async move {
                started.await.unwrap();
                here()
            };
            let Begun::GoesOn(inner) = begin(inner) else { panic!("nothing was sent yet") };
            let outer = async move { (inner.await.unwrap(), here(), restarted.await.map(|()| here())) };
            let Begun::GoesOn(mut outer) = begin(outer) else { panic!("nothing was sent yet") };
            let attention = Attention::begin();
            go.send(()).unwrap();
            attention.work();
            drop(attention);
            assert!(outer.try_recv().is_err(), "it waits once more");
            again.send(()).unwrap();
            (outer.blocking_recv().unwrap(), here())
        });
        let ((inner, outer, last), waiter) = both.await.unwrap();
        assert_eq!((inner, outer), (waiter, waiter));
        assert_ne!(last, Ok(waiter), "nobody waits awake any more");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_was_woken_last_is_left_to_the_runtime() {
        let outcome = tokio::task::spawn_blocking(|| {
            let (go, started) = oneshot::channel::<()>();
            let Begun::GoesOn(outcome) = begin(started) else { panic!("nothing was sent yet") };
            let attention = Attention::begin();
            go.send(()).unwrap();
            drop(attention);
            outcome
        });
        let outcome = tokio::time::timeout(Duration::from_secs(10), outcome.await.unwrap());
        assert_eq!(outcome.await.unwrap(), Ok(Ok(())));
    }
}
