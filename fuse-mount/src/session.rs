//! The session with the kernel: what is negotiated, which mount options it is made with, and how it begins.

use crate::fs::KernelFs;
use crate::kernel_cache::KernelCache;
use crate::mount_error::MountError;
use crate::options::{MountFlags, MountOptions};
use fuser::{BackgroundSession, Config, InitFlags, KernelConfig, MountOption, Session, SessionACL};
use std::io;
use std::os::fd::AsFd;

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

/// Answers the kernel's INIT.
pub(crate) fn negotiate(config: &mut KernelConfig, cache: &KernelCache) {
    cache.negotiated(config.kernel_abi());
    let leases = if cache.has_epochs() { &WANTED_WITH_LEASES[..] } else { &[][..] };
    for wanted in WANTED.iter().chain(leases) {
        if let Err(missing) = config.add_capabilities(*wanted) {
            tracing::info!(?missing, "the kernel lacks a FUSE capability; going on without it");
        }
    }
    // Each setter refuses only values beyond fixed bounds of the transport, far above ours.
    let _ = config.set_max_write(REQUEST_BYTES_MAX);
    let _ = config.set_max_background(BACKGROUND_REQUESTS_MAX);
}

/// Mounts, answers INIT and starts the receiving threads. Blocks while the kernel and `fusermount3` work.
///
/// # Errors
/// What mount(2) or fusermount3 said.
pub(crate) fn begin(
    options: &MountOptions,
    fs: KernelFs,
    cache: &KernelCache,
) -> Result<BackgroundSession, MountError> {
    let config = session_config(options, rustix::process::geteuid().is_root());
    let refused = |error: io::Error| MountError::refused(&options.mount_point, &error);
    let session = Session::new(fs, &options.mount_point, &config).map_err(refused)?;
    cache.attach(session.as_fd().try_clone_to_owned().map_err(refused)?);
    session.spawn().map_err(refused)
}

fn session_config(options: &MountOptions, is_root: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = mount_options(options);
    config.acl = if options.flags.others_may_enter(is_root) { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(std::thread::available_parallelism().map_or(1, usize::from));
    config.clone_fd = true;
    config
}

fn mount_options(options: &MountOptions) -> Vec<MountOption> {
    let MountFlags { read_only, suid, dev, no_exec, sync, .. } = options.flags;
    // As an option of the kernel's own, so that the mount table says `fuse.cairn` also without fusermount3.
    let subtype = MountOption::CUSTOM("subtype=cairn".to_owned());
    // fusermount3 splits at commas.
    let source = MountOption::FSName(options.masters.join(";"));
    let mut list = vec![source, subtype, MountOption::DefaultPermissions, MountOption::NoAtime];
    list.push(if read_only { MountOption::RO } else { MountOption::RW });
    list.push(if suid { MountOption::Suid } else { MountOption::NoSuid });
    list.push(if dev { MountOption::Dev } else { MountOption::NoDev });
    list.extend(no_exec.then_some(MountOption::NoExec));
    list.extend(sync.then_some(MountOption::Sync));
    list
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
        let list = mount_options(&options("ro,noexec,suid"));
        for wanted in [
            MountOption::RO,
            MountOption::NoExec,
            MountOption::Suid,
            MountOption::NoDev,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
            MountOption::FSName("a:1;b:2".into()),
        ] {
            assert!(list.contains(&wanted), "{wanted:?} in {list:?}");
        }
        assert!(!list.contains(&MountOption::Sync));
    }

    #[test]
    fn an_ordinary_user_keeps_the_mount_to_himself() {
        assert_eq!(session_config(&options(""), false).acl, SessionACL::Owner);
        assert_eq!(session_config(&options(""), true).acl, SessionACL::All);
    }
}
