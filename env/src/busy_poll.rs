//! Busy polling: a thread that waits for something which comes over a connection reads that connection itself for a moment,
//! instead of sleeping until another thread has been woken, has read it and wakes this one. Each of these hand-overs costs
//! more than most messages do.
//!
//! A connection is read by a task. [`BusyPoll::task`] makes it one that other threads may advance as well, one at a time; a
//! [`Watch`] advances those that were last active. While it does, their sockets wake nobody; when it ends, each is read once
//! more and left to its runtime again, so that nothing goes unnoticed.

use cairn_core::limits::BUSY_POLLED_MAX;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

/// How a socket is read by this thread just now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polling {
    /// As ever, by the runtime.
    ByRuntime,
    /// Once, directly, and nobody is registered with the runtime for it. Once: a peer that sends without end must not hold the
    /// thread.
    Busily,
    /// Not at all: it was read busily.
    Read,
    /// Not at all: it is left to the runtime, which is registered for it.
    Leaving,
}

thread_local! {
    static POLLING: Cell<Polling> = const { Cell::new(Polling::ByRuntime) };
}

/// How to read now. After a busy read, there is none until the next busy poll.
pub(crate) fn polling() -> Polling {
    let polling = POLLING.get();
    if polling == Polling::Busily {
        POLLING.set(Polling::Read);
    }
    polling
}

/// The tasks that were last active. Clones share them.
#[derive(Clone, Default)]
pub struct BusyPoll {
    /// Newest first.
    recent: Arc<Mutex<Vec<Weak<Shared>>>>,
}

impl BusyPoll {
    /// Makes a future one that a [`Watch`] advances as well, wherever it is awaited. What it awaits must not care which thread
    /// polls it. Must be called within a runtime.
    pub fn task<F>(&self, future: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (demand, task) = self.on_demand(future);
        async move {
            let _always = demand.expect();
            task.await;
        }
    }

    /// As [`BusyPoll::task`], for one that is worth a look only while somebody expects something of it.
    pub fn on_demand<F>(&self, future: F) -> (Demand, impl Future<Output = ()> + Send + use<F>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = Arc::new(Shared {
            runtime: Handle::current(),
            steps: Mutex::new(Steps { future: Some(Box::pin(future)), waker: None }),
            missed: AtomicBool::new(false),
            unattended: AtomicBool::new(false),
            expecting: AtomicUsize::new(0),
        });
        let demand = Demand { busy_poll: self.clone(), task: task.clone() };
        let (busy_poll, owner) = (self.clone(), Owner(task));
        let task = async move {
            poll_fn(|context| {
                busy_poll.note(&owner.0);
                owner.0.poll(context)
            })
            .await;
        };
        (demand, task)
    }

    /// Begins to poll busily.
    pub fn watch(&self) -> Watch {
        let recent = self.recent();
        let tasks = recent.iter().filter_map(Weak::upgrade);
        Watch { tasks: tasks.filter(|task| task.expecting.load(Relaxed) > 0).collect() }
    }

    fn note(&self, task: &Arc<Shared>) {
        if task.expecting.load(Relaxed) == 0 {
            return;
        }
        let mut recent = self.recent();
        let is_it = |other: &Weak<Shared>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(task));
        match recent.iter().position(is_it) {
            Some(position) => recent[..=position].rotate_right(1),
            None => {
                recent.truncate(BUSY_POLLED_MAX - 1);
                recent.insert(0, Arc::downgrade(task));
            }
        }
    }

    fn recent(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that something is expected of a task.
#[derive(Clone)]
pub struct Demand {
    busy_poll: BusyPoll,
    task: Arc<Shared>,
}

/// Something is expected until this is dropped.
pub struct Expected<'a>(&'a Demand);

impl Demand {
    /// From now on.
    pub fn expect(&self) -> Expected<'_> {
        self.task.expecting.fetch_add(1, Relaxed);
        self.busy_poll.note(&self.task);
        Expected(self)
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.0.task.expecting.fetch_sub(1, Relaxed);
    }
}

/// A thread that polls busily the tasks that were last active when it began.
pub struct Watch {
    tasks: Vec<Arc<Shared>>,
}

impl Watch {
    /// Reads once, without waiting, what has come.
    pub fn poll(&self) {
        self.tasks.iter().for_each(|task| task.poll_busily());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.leave_to_runtime());
    }
}

/// Ends the future when whoever awaits it goes away.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.steps.lock().unwrap_or_else(PoisonError::into_inner).future.take());
    }
}

struct Shared {
    runtime: Handle,
    steps: Mutex<Steps>,
    /// The runtime wanted to poll while another thread did.
    missed: AtomicBool,
    /// A watch ended while the runtime polled: what the watch had silenced may have been passed already.
    unattended: AtomicBool,
    /// How many expect something of it.
    expecting: AtomicUsize,
}

struct Steps {
    /// `None`: it has ended.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The runtime's, as of its last poll.
    waker: Option<Waker>,
}

impl Shared {
    /// On behalf of the runtime. Never waits: whoever polls just now polls once more, or wakes it.
    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut steps = match self.try_lock() {
            Some(steps) => steps,
            None => {
                self.missed.store(true, SeqCst);
                match self.try_lock() {
                    Some(steps) => steps,
                    None => return Poll::Pending,
                }
            }
        };
        self.missed.store(false, SeqCst);
        steps.waker = Some(context.waker().clone());
        let Some(future) = &mut steps.future else { return Poll::Ready(()) };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            steps.future = None;
        }
        drop(steps);
        // After the lock is free: who found it taken had said so before.
        if self.unattended.swap(false, SeqCst) {
            context.waker().wake_by_ref();
        }
        polled
    }

    fn poll_busily(&self) {
        if let Some(steps) = self.try_lock() {
            self.poll_here(steps, Polling::Busily);
        }
    }

    /// Registers again with the runtime what busy polls have not. Never waits: if the runtime polls just now, it does so again.
    fn leave_to_runtime(&self) {
        self.unattended.store(true, SeqCst);
        if let Some(steps) = self.try_lock() {
            self.unattended.store(false, SeqCst);
            self.poll_here(steps, Polling::Leaving);
        }
    }

    fn poll_here(&self, mut steps: MutexGuard<'_, Steps>, how: Polling) {
        let Steps { future: Some(future), waker: Some(waker) } = &mut *steps else { return };
        let waker = waker.clone();
        let _runtime = self.runtime.enter();
        let mut ended = step(future, &waker, how);
        // The runtime's poll was in vain, and with it the registration of the socket: this one takes its place.
        while !ended && self.missed.swap(false, SeqCst) {
            ended = step(future, &waker, Polling::Leaving);
        }
        if ended {
            steps.future = None;
        }
        drop(steps);
        if ended || self.missed.load(SeqCst) {
            waker.wake();
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Steps>> {
        match self.steps.try_lock() {
            Ok(steps) => Some(steps),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Whether the future has ended. A panic ends it, as it would end a task, and not the thread that polls.
fn step(future: &mut Pin<Box<dyn Future<Output = ()> + Send>>, waker: &Waker, how: Polling) -> bool {
    let future = pin!(unconstrained(future.as_mut()));
    POLLING.set(how);
    let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(waker))));
    POLLING.set(Polling::ByRuntime);
    match polled {
        Ok(polled) => polled.is_ready(),
        Err(_) => {
            tracing::error!("a connection's task panicked; the connection is closed");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Net;
    use crate::net::stream::{ReadHalf, WriteHalf};
    use crate::net::tcp::TcpNet;
    use cairn_core::limits::BUSY_READ_BYTES;
    use std::thread::ThreadId;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    async fn connected() -> (ReadHalf, WriteHalf) {
        let mut listener = TcpNet.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (near, far) = tokio::join!(TcpNet.connect(&address), listener.accept());
        let ((read, _), (_, write)) = (near.unwrap().into_split(), far.unwrap().0.into_split());
        // The other direction of each is not used; a half that is dropped only ends its own.
        (read, write)
    }

    /// Numbers that come over the connection, and who read them.
    fn numbers(busy_poll: &BusyPoll, mut read: ReadHalf) -> mpsc::UnboundedReceiver<(u32, ThreadId)> {
        let (heard, numbers) = mpsc::unbounded_channel();
        let busy_poll = busy_poll.clone();
        drop(tokio::spawn(async move {
            let reader = async move {
                while let Ok(number) = read.read_u32().await {
                    heard.send((number, std::thread::current().id())).unwrap();
                }
            };
            busy_poll.task(reader).await;
        }));
        numbers
    }

    #[tokio::test]
    async fn what_has_come_is_read_by_the_thread_that_polls() {
        let busy_poll = BusyPoll::default();
        let (read, mut write) = connected().await;
        let mut numbers = numbers(&busy_poll, read);
        write.write_u32(1).await.unwrap();
        let (first, runtime) = numbers.recv().await.unwrap();
        write.write_u32(2).await.unwrap();
        // This runtime's only thread waits here, so nobody else can read.
        let second = std::thread::scope(|scope| {
            let polls = scope.spawn(|| {
                let until = Instant::now() + Duration::from_secs(10);
                let watch = busy_poll.watch();
                while numbers.is_empty() && Instant::now() < until {
                    watch.poll();
                }
                (numbers.try_recv(), std::thread::current().id())
            });
            polls.join().unwrap()
        });
        let (Ok((second, by)), poller) = second else { panic!("{second:?}") };
        assert_eq!((first, second), (1, 2));
        assert_eq!(by, poller);
        assert_ne!(runtime, poller);
        write.write_u32(3).await.unwrap();
        assert_eq!(numbers.recv().await, Some((3, runtime)), "the runtime goes on where the poller ended");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_or_late_however_polls_and_messages_meet() {
        let busy_poll = BusyPoll::default();
        let (read, mut write) = connected().await;
        let mut numbers = numbers(&busy_poll, read);
        let (done, finished) = std::sync::mpsc::channel::<()>();
        let polls = std::thread::spawn(move || {
            let mut turn = 0u64;
            while finished.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let watch = busy_poll.watch();
                (0..turn >> 57).for_each(|_| watch.poll());
                drop(watch);
                if turn >> 63 == 0 {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(Duration::from_micros(turn >> 58));
                }
            }
        });
        for number in 0..20_000 {
            write.write_u32(number).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_secs(10), numbers.recv()).await;
            assert_eq!(heard.unwrap().unwrap().0, number);
        }
        done.send(()).unwrap();
        polls.join().unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_sends_without_end_does_not_hold_the_poller() {
        let busy_poll = BusyPoll::default();
        let (read, mut write) = connected().await;
        let mut numbers = numbers(&busy_poll, read);
        tokio::task::yield_now().await;
        // This runtime's only thread waits below, so what comes is read by nobody else.
        write.write_all(&[7; 8 * BUSY_READ_BYTES]).await.unwrap();
        let watch = busy_poll.watch();
        for _ in 0..3 {
            watch.poll();
            // A number begun in one poll ends in another.
            let heard = std::iter::from_fn(|| numbers.try_recv().ok()).count();
            assert!(heard <= BUSY_READ_BYTES / 4 + 1, "{heard}");
        }
        drop(watch);
        assert!(numbers.recv().await.is_some(), "the runtime reads the rest");
    }

    #[tokio::test]
    async fn nobody_looks_where_nothing_is_expected() {
        let busy_poll = BusyPoll::default();
        let (demand, task) = busy_poll.on_demand(std::future::pending());
        let task = tokio::spawn(task);
        assert_eq!(busy_poll.watch().tasks.len(), 0);
        let (one, two) = (demand.expect(), demand.expect());
        drop(one);
        assert_eq!(busy_poll.watch().tasks.len(), 1);
        drop(two);
        assert_eq!(busy_poll.watch().tasks.len(), 0);
        task.abort();
    }

    #[tokio::test]
    async fn a_panic_ends_the_task_and_not_the_poller() {
        let busy_poll = BusyPoll::default();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let polled = busy_poll.clone();
        let task = tokio::spawn(async move {
            let fails = async move {
                gone.await.unwrap();
                panic!("as wanted");
            };
            polled.task(fails).await;
        });
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        busy_poll.watch().poll();
        assert!(task.await.is_ok(), "it has ended in the hands of the poller");
        busy_poll.watch().poll();
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_takes_its_future_along() {
        let busy_poll = BusyPoll::default();
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let polled = busy_poll.clone();
        let task = tokio::spawn(async move {
            let waits = async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            };
            polled.task(waits).await;
        });
        tokio::task::yield_now().await;
        task.abort();
        assert_eq!(ended.recv().await, None);
        busy_poll.watch().poll();
    }
}
