//! Where a request runs: its first step on the thread that received it, the rest on the runtime.
//!
//! What is at hand is answered without a hand-over (each costs ~25 µs between cores); what must wait holds the receiving
//! thread for a moment at most ([`crate::look_out`]). It becomes a task only when what it waits for has come, so that nobody is
//! woken in vain. A panic in one request ends that request with EIO and nothing else.

use crate::errno::is_failure;
use crate::look_out::LookOut;
use crate::metrics::Kind;
use crate::respond::Respond;
use cairn_core::error::FsError;
use cairn_env::errand;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::runtime::Handle;
use tracing::{Instrument, Span};

/// Starts `operation` and sees that its outcome reaches `reply`, exactly once (a dropped reply sends EIO itself).
pub(crate) fn start<T: Send + 'static>(
    runtime: &Handle,
    look_out: &Arc<LookOut>,
    (kind, span): (Kind, Span),
    operation: impl Future<Output = Result<T, FsError>> + Send + 'static,
    reply: impl Respond<T>,
) {
    let _runtime = runtime.enter();
    let under_way = look_out.enter(kind);
    let since = under_way.since;
    let task = async move {
        let mut operation = pin!(operation);
        let mut steps = 0;
        let outcome = poll_fn(|context| {
            steps += 1;
            match operation.as_mut().poll(context) {
                Poll::Pending if reply.is_given_up(context) => Poll::Ready(None),
                outcome => outcome.map(Some),
            }
        });
        // Nobody waits for it: what it holds goes with it.
        let Some(outcome) = outcome.await else { return };
        under_way.end(steps > 1, outcome.as_ref().err());
        if let Some(error) = outcome.as_ref().err().filter(|error| is_failure(error)) {
            tracing::warn!(%error, "request failed");
        }
        reply.respond(outcome);
    };
    let request = errand::start(task.instrument(span));
    if !request.has_left()
        && let Some(watch) = look_out.begin(since)
    {
        while !request.has_left() && watch.goes_on() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_env::Env;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    struct Answer(Sender<Result<u32, FsError>>);

    impl Respond<u32> for Answer {
        fn respond(self, outcome: Result<u32, FsError>) {
            self.0.send(outcome).unwrap();
        }

        fn is_given_up(&self, _context: &Context<'_>) -> bool {
            false
        }
    }

    fn unnamed() -> (Kind, Span) {
        (Kind::Read, Span::none())
    }

    fn run(
        operation: impl Future<Output = Result<u32, FsError>> + Send + 'static,
    ) -> Receiver<Result<u32, FsError>> {
        run_with(&LookOut::new(&Env::real(), Arc::default()), operation)
    }

    fn run_with(
        look_out: &Arc<LookOut>,
        operation: impl Future<Output = Result<u32, FsError>> + Send + 'static,
    ) -> Receiver<Result<u32, FsError>> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (sender, receiver) = channel();
        start(runtime.handle(), look_out, unnamed(), operation, Answer(sender));
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

    /// Begins a request whose answer comes over a connection, after a while in which the runtime does not look there. Whether
    /// it is answered by the thread that began it.
    fn is_looked_out_for(env: &Env, look_out: &Arc<LookOut>) -> bool {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (sender, polled) = channel();
        let connection = async move {
            let soon = Instant::now() + Duration::from_millis(20);
            let mut late = pin!(tokio::time::sleep(Duration::from_secs(1)));
            poll_fn(|context| {
                // Only the first poll is waited for.
                let _ = sender.send(());
                let late = late.as_mut().poll(context);
                if Instant::now() >= soon { Poll::Ready(()) } else { late }
            })
            .await;
            answer.send(()).unwrap();
        };
        let busy_poll = env.busy_poll.clone();
        drop(runtime.spawn(async move { busy_poll.task(connection).await }));
        polled.recv().unwrap();
        let here = std::thread::current().id();
        let operation = async move {
            answered.await.unwrap();
            Ok(u32::from(std::thread::current().id() == here))
        };
        let (sender, receiver) = channel();
        start(runtime.handle(), look_out, unnamed(), operation, Answer(sender));
        let by_this_thread = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
        runtime.shutdown_background();
        by_this_thread == Ok(1)
    }

    #[test]
    fn a_lone_request_that_is_answered_soon_ends_where_it_began() {
        let env = Env::real();
        let look_out = LookOut::with_patience(&env, Arc::default(), Duration::from_secs(5));
        assert!(!is_looked_out_for(&env, &look_out), "not yet known to be worth it");
        assert!(is_looked_out_for(&env, &look_out));
        let other = look_out.enter(Kind::Read);
        assert!(!is_looked_out_for(&env, &look_out), "not alone");
        drop(other);
        assert!(is_looked_out_for(&env, &look_out));
    }

    #[test]
    fn nobody_looks_out_for_long() {
        let look_out = LookOut::with_patience(&Env::real(), Arc::default(), Duration::from_millis(1));
        let here = std::thread::current().id();
        let after = |millis| async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(u32::from(std::thread::current().id() == here))
        };
        look_out.enter(Kind::Read).end(true, None);
        assert_eq!(run_with(&look_out, after(50)).recv().unwrap(), Ok(0));
        let next = look_out.enter(Kind::Read);
        assert!(look_out.begin(next.since).is_none(), "that was too long to look out for the next one");
    }

    /// Nobody waits for it from some moment on.
    #[derive(Clone, Default)]
    struct Fickle {
        gone: Arc<AtomicBool>,
        work: Arc<Mutex<Option<Waker>>>,
    }

    impl Respond<u32> for Fickle {
        fn respond(self, _outcome: Result<u32, FsError>) {
            panic!("it never ends");
        }

        fn is_given_up(&self, context: &Context<'_>) -> bool {
            *self.work.lock().unwrap() = Some(context.waker().clone());
            self.gone.load(SeqCst)
        }
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (held, let_go) = channel::<()>();
        let (reply, look_out) = (Fickle::default(), LookOut::new(&Env::real(), Arc::default()));
        let operation = async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(7)
        };
        start(runtime.handle(), &look_out, unnamed(), operation, reply.clone());
        assert_eq!(let_go.try_recv(), Err(TryRecvError::Empty));
        reply.gone.store(true, SeqCst);
        let work = reply.work.lock().unwrap().take().unwrap();
        work.wake();
        assert_eq!(let_go.recv_timeout(Duration::from_secs(5)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_panic_ends_one_request_only() {
        assert!(run(async { panic!("at once") }).recv().is_err(), "the reply was dropped, not sent");
    }
}
