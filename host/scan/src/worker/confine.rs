//! What a worker takes away from itself before it reads the first byte.

use std::collections::BTreeMap;
use std::{fs, io, process};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Descriptors that a worker has, its three pipes, and all that it may have.
const FILES: u64 = 3;

/// System calls that a worker is left, by glibc and by musl: memory, its pipes, and to end. What else it or an intruder in it asks for is refused:
/// there is no file to open, no address to connect to, no program to run, no process to signal but itself.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Limits that the kernel enforces on the worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confine {
    /// Address space in bytes beyond what the program itself maps. Memory that is only reserved counts, too.
    pub memory_bytes: u64,
    /// CPU time; the kernel ends the process one second after it.
    pub cpu_seconds: u64,
}

impl Default for Confine {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, cpu_seconds: 600 }
    }
}

/// A limit that could not be set; scanning without it would be a promise broken.
#[derive(Debug, thiserror::Error)]
#[error("cannot limit the worker's {what}: {cause}")]
pub struct ConfineError {
    what: &'static str,
    cause: io::Error,
}

/// How far the kernel went along.
#[derive(Debug)]
pub enum Confined {
    /// All limits are set.
    Wholly,
    /// All but that of the system calls, which this kernel or processor cannot limit.
    ButSystemCalls(seccompiler::Error),
}

/// Sets the limits of this process, for good: the hard limits go down with the soft ones.
///
/// No file can be written (`RLIMIT_FSIZE` 0 does not touch pipes) or opened, no core is left, and of the kernel's calls only
/// those remain that a scan needs (seccomp(2), which also keeps privileges from being gained).
///
/// # Errors
/// [`ConfineError`] names the first limit that could not be set.
pub fn confine(limits: &Confine) -> Result<Confined, ConfineError> {
    let mapped = mapped_bytes().map_err(|cause| ConfineError { what: "memory", cause })?;
    let memory = mapped.saturating_add(limits.memory_bytes);
    let all = [
        ("memory", Resource::As, memory, memory),
        // Past the soft limit the kernel sends SIGXCPU, at the hard one SIGKILL.
        ("CPU time", Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1)),
        ("files", Resource::Nofile, FILES, FILES),
        ("file size", Resource::Fsize, 0, 0),
        ("core file", Resource::Core, 0, 0),
    ];
    for (what, resource, soft, hard) in all {
        let now = getrlimit(resource);
        // Never above what the process was given.
        let least = |wanted: u64| Some(now.maximum.map_or(wanted, |given| given.min(wanted)));
        let limit = Rlimit { current: least(soft), maximum: least(hard) };
        setrlimit(resource, limit).map_err(|cause| ConfineError { what, cause: cause.into() })?;
    }
    match seal() {
        Ok(()) => Ok(Confined::Wholly),
        // The other limits hold: it has no descriptor left to open or connect anything with.
        Err(error) if is_missing(&error) => Ok(Confined::ButSystemCalls(error)),
        Err(error) => Err(ConfineError { what: "system calls", cause: io::Error::other(error) }),
    }
}

/// Whether there are no filters here at all: a kernel without `CONFIG_SECCOMP_FILTER`, a sandbox around this process that keeps
/// them to itself, a processor that the filter's compiler does not know.
fn is_missing(error: &seccompiler::Error) -> bool {
    match error {
        seccompiler::Error::Prctl(cause) | seccompiler::Error::Seccomp(cause) => {
            matches!(cause.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM))
        }
        seccompiler::Error::Backend(seccompiler::BackendError::InvalidTargetArch(_)) => true,
        _ => false,
    }
}

/// Leaves this thread, of which a worker has only one, nothing but [`CALLS`]; all others answer `EPERM`.
fn seal() -> Result<(), seccompiler::Error> {
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // `abort` signals its own process by glibc, its only thread by musl, which has the process's number.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, process::id().into())?;
    for call in [libc::SYS_tgkill, libc::SYS_tkill] {
        allowed.insert(call, vec![SeccompRule::new(vec![own.clone()])?]);
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(allowed, refused, SeccompAction::Allow, architecture)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)
}

/// Address space that this process has now: the program's text, its libraries and stack (proc(5), `statm`).
fn mapped_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::other("`/proc/self/statm` is not of its form"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;

    use super::*;
    use crate::testing::{OS_RELEASE, Put, scan_tars, stanza, tar};

    /// A filter binds one thread, so a test can have one and then be rid of it.
    #[test]
    fn a_sealed_thread_scans_and_reaches_nothing() {
        let status = stanza("a", "1").repeat(10_000);
        let image = tar(&[
            Put::File("etc/os-release", OS_RELEASE),
            Put::File("var/lib/dpkg/status", status.as_bytes()),
        ]);
        let sealed = move || {
            seal().unwrap();
            let refused = io::ErrorKind::PermissionDenied;
            assert_eq!(fs::read("/proc/self/statm").unwrap_err().kind(), refused);
            assert_eq!(TcpListener::bind("127.0.0.1:0").unwrap_err().kind(), refused);
            assert_eq!(Command::new("/bin/true").status().unwrap_err().kind(), refused);
            let other = rustix::process::Pid::INIT;
            assert!(rustix::process::test_kill_process(other).is_err());
            scan_tars(&[&image]).packages.len()
        };
        assert_eq!(std::thread::spawn(sealed).join().unwrap(), 1);
    }

    /// Signal 0 is none: the kernel only answers whether it would have been sent.
    #[expect(unsafe_code, reason = "no safe wrapper has the calls by which musl and glibc abort")]
    fn may_signal(call: libc::c_long, process: u32) -> bool {
        let sent = match call {
            // SAFETY: both take numbers alone.
            libc::SYS_tkill => unsafe { libc::syscall(call, process, 0) },
            _ => unsafe { libc::syscall(call, process, process, 0) },
        };
        sent == 0
    }

    #[test]
    fn a_sealed_thread_can_abort_by_glibc_and_by_musl_and_signal_nobody_else() {
        let sealed = || {
            seal().unwrap();
            for call in [libc::SYS_tgkill, libc::SYS_tkill] {
                assert!(may_signal(call, process::id()), "{call}");
                assert!(!may_signal(call, 1), "{call}");
            }
        };
        std::thread::spawn(sealed).join().unwrap();
    }

    /// A kernel without filters, as a thread sees it that has one which says so.
    #[test]
    fn a_kernel_without_filters_is_told_from_a_failure() {
        for (answer, expected) in
            [(libc::ENOSYS, true), (libc::EINVAL, true), (libc::EPERM, true), (libc::ENOMEM, false)]
        {
            let denied = move || {
                let calls = [(libc::SYS_seccomp, Vec::new())].into();
                let answer = SeccompAction::Errno(answer.unsigned_abs());
                let architecture = std::env::consts::ARCH.try_into().unwrap();
                let filter = SeccompFilter::new(calls, SeccompAction::Allow, answer, architecture).unwrap();
                seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
                is_missing(&seal().unwrap_err())
            };
            assert_eq!(std::thread::spawn(denied).join().unwrap(), expected, "{answer}");
        }
    }
}
