//! The session with the kernel: a thread for each core, each with a descriptor and a buffer of its own.

use super::abi::{IN_HEADER_BYTES, WRITE_IN_BYTES};
use super::channel::{Channel, Ended};
use super::filesystem::Filesystem;
use super::handshake::{Offer, Wanted, shake_hands};
use super::interrupts::Interrupts;
use super::reply::Port;
use super::serve::{Desk, Next, SessionAcl, serve};
use super::underway::Underway;
use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A buffer has room for this beyond the bytes of the largest write.
const BUFFER_MARGIN_BYTES: usize = 4096;

/// Receiving threads at work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    receiving: Arc<AtomicUsize>,
}

impl Session {
    /// Answers INIT and starts to receive. `ended` is told when a thread has ended, for whatever reason. The session ends when
    /// the kernel lets go of it; dropping this changes nothing.
    ///
    /// # Errors
    /// The kernel is too old, or a descriptor or thread cannot be had.
    pub(crate) fn begin(
        device: OwnedFd,
        acl: SessionAcl,
        filesystem: impl Filesystem,
        choose: impl FnOnce(&Offer) -> Wanted,
        ended: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let first = Channel::new(device);
        let mut request_bytes_max = 0;
        shake_hands(&first, |offer| {
            let wanted = choose(offer);
            request_bytes_max = wanted.request_bytes_max as usize;
            wanted
        })?;
        let ports = ports(first)?;
        let interrupts = Interrupts::watch(ports.clone())?;
        let desk = Arc::new(Desk { filesystem, acl, interrupts });
        let (session, ended) = (Self::default(), Arc::new(ended));
        for port in ports {
            let (desk, guard) = (desk.clone(), Receiving::begin(&session, ended.clone()));
            let receiver = thread::Builder::new().name(format!("fuse-{}", port.number));
            receiver.spawn(move || {
                let _guard = guard;
                receive(&desk, &port, request_bytes_max);
            })?;
        }
        Ok(session)
    }

    /// All threads have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.receiving.load(Ordering::Acquire) == 0
    }
}

/// A descriptor for each core.
fn ports(first: Channel) -> io::Result<Vec<Port>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut channels = (1..threads).map(|_| first.another()).collect::<io::Result<Vec<_>>>()?;
    channels.push(first);
    let underway = Arc::new(Underway::default());
    let port =
        |(number, channel)| Port { channel: Arc::new(channel), number, underway: Arc::clone(&underway) };
    Ok(channels.into_iter().enumerate().map(port).collect())
}

/// A receiving thread, until this is dropped.
struct Receiving<E: Fn()> {
    session: Session,
    ended: Arc<E>,
}

impl<E: Fn()> Receiving<E> {
    fn begin(session: &Session, ended: Arc<E>) -> Self {
        session.receiving.fetch_add(1, Ordering::AcqRel);
        Self { session: session.clone(), ended }
    }
}

impl<E: Fn()> Drop for Receiving<E> {
    fn drop(&mut self) {
        self.session.receiving.fetch_sub(1, Ordering::AcqRel);
        (self.ended)();
    }
}

fn receive(desk: &Desk<impl Filesystem>, port: &Port, request_bytes_max: usize) {
    let size = request_bytes_max + BUFFER_MARGIN_BYTES;
    let mut buffer = Vec::with_capacity(size);
    loop {
        match port.channel.receive(&mut buffer) {
            Ok(()) => {}
            Err(Ended::Unmounted) => return,
            Err(Ended::Failed(error)) => {
                tracing::error!(%error, "no more requests can be received from the kernel");
                return;
            }
        }
        // Nearly all of the buffer is the bytes of a write: they are handed on as they are, and it with them.
        let is_large = buffer.len() >= IN_HEADER_BYTES + WRITE_IN_BYTES + request_bytes_max / 8 * 7;
        let whole = is_large.then(|| Bytes::from(std::mem::replace(&mut buffer, Vec::with_capacity(size))));
        let message = whole.as_deref().unwrap_or(&buffer);
        // The reply that unwinding drops says EIO.
        match catch_unwind(AssertUnwindSafe(|| serve(desk, port, message, whole.as_ref()))) {
            Ok(Next::Request) => {}
            Ok(Next::Nothing) => return,
            Err(_) => tracing::error!("a request panicked; it got an error"),
        }
    }
}
