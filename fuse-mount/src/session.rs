//! The session with the kernel: what is negotiated, which mount options it is made with, and how it begins.

use crate::fs::KernelFs;
use crate::kernel::{InitFlags, Notifier, Offer, Options, Session, SessionAcl, Wanted, mount};
use crate::kernel_cache::KernelCache;
use crate::mount_error::MountError;
use crate::mount_table::unmount_at;
use crate::options::{MountFlags, MountOptions};
use std::io;
use std::sync::Arc;
use tokio::sync::Notify;

/// Largest request: the kernel's own limit of 256 pages (fs.fuse.max_pages_limit).
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Reads ahead and pages written back that the kernel may have under way; with 1 MiB each, bounded by 64 MiB.
const BACKGROUND_REQUESTS_MAX: u16 = 64;

/// What we ask for where the kernel offers it. Not asked for: POSIX and flock locks (the kernel then keeps them itself,
/// interruptibly), the write-back cache (its mtime and length would be this mount's own truth), AUTO_INVAL_DATA (it drops
/// our own pages whenever our own write moves mtime; the answer to open says whether others wrote), ATOMIC_O_TRUNC (the kernel
/// would look only after the open whether the file is being executed: `O_RDONLY|O_TRUNC` emptied a running program).
const WANTED: [InitFlags; 8] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    // Lookup of `.` and `..` works, and inode numbers are never reused: file handles of NFS and open_by_handle_at(2).
    InitFlags::FUSE_EXPORT_SUPPORT,
    // A target never changes while its inode lives.
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    // Else the kernel asks for security.capability before every write(2): `ops/privileges`.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];
/// Attributes with directory entries; a kernel that may not keep them would throw them away.
const WANTED_WITH_LEASES: [InitFlags; 2] = [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_READDIRPLUS_AUTO];

/// What is wanted of what the kernel offers.
fn choose(offer: &Offer, cache: &KernelCache) -> Wanted {
    cache.negotiated(offer.version);
    let leases = if cache.has_epochs() { &WANTED_WITH_LEASES[..] } else { &[][..] };
    let mut flags = InitFlags::default();
    for wanted in WANTED.iter().chain(leases) {
        flags = flags.union(*wanted);
        if !offer.flags.contains(*wanted) {
            tracing::info!(missing = wanted.0, "the kernel lacks a FUSE capability; going on without it");
        }
    }
    Wanted { flags, request_bytes_max: REQUEST_BYTES_MAX, background_max: BACKGROUND_REQUESTS_MAX }
}

/// Mounts, answers INIT and starts the receiving threads. Blocks while the kernel and `fusermount3` work. `ended` is told when
/// the kernel lets go of the session, and when a receiving thread ends before.
///
/// # Errors
/// What mount(2) or fusermount3 said.
pub(crate) fn begin(
    options: &MountOptions,
    fs: KernelFs,
    cache: &KernelCache,
    ended: Arc<Notify>,
) -> Result<Session, MountError> {
    let refused = |error: io::Error| MountError::refused(&options.mount_point, &error);
    let (mount_options, acl) = mount_options(options, rustix::process::geteuid().is_root());
    let device = mount(&options.mount_point, &mount_options).map_err(refused)?;
    let begin = || {
        cache.attach(Notifier::new(device.try_clone()?));
        Session::begin(device, acl, fs, |offer| choose(offer, cache), move || ended.notify_one())
    };
    begin().map_err(|error| {
        // Nothing has been done with it yet, and it would stay behind dead.
        let _ = unmount_at(&options.mount_point, true);
        refused(error)
    })
}

fn mount_options(options: &MountOptions, is_root: bool) -> (Options, SessionAcl) {
    let MountFlags { read_only, suid, dev, no_exec, sync, .. } = options.flags;
    let allow_other = options.flags.others_may_enter(is_root);
    let uid = rustix::process::geteuid().as_raw();
    let acl = if allow_other { SessionAcl::All } else { SessionAcl::Owner { uid } };
    let source = options.masters.join(";");
    (Options { source, subtype: "cairn", allow_other, read_only, suid, dev, no_exec, sync }, acl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> MountOptions {
        MountOptions {
            masters: vec!["a:1".into(), "b:2".into()],
            mount_point: "/mnt/x".into(),
            flags: MountFlags::default().parse(words).unwrap(),
        }
    }

    #[test]
    fn words_become_options_of_the_kernel() {
        let (list, _) = mount_options(&options("ro,noexec,suid"), true);
        let wanted = Options {
            source: "a:1;b:2".into(),
            subtype: "cairn",
            allow_other: true,
            read_only: true,
            suid: true,
            dev: false,
            no_exec: true,
            sync: false,
        };
        assert_eq!(list, wanted);
    }

    #[test]
    fn an_ordinary_user_keeps_the_mount_to_himself() {
        let uid = rustix::process::geteuid().as_raw();
        let of = |is_root| {
            let (list, acl) = mount_options(&options(""), is_root);
            (list.allow_other, acl)
        };
        assert_eq!(of(false), (false, SessionAcl::Owner { uid }));
        assert_eq!(of(true), (true, SessionAcl::All));
    }
}
