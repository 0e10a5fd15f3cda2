//! What a worker takes away from itself before it reads the first byte.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits that the kernel enforces on the worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confine {
    /// Address space in bytes. It counts the program's own text and libraries, and memory that is reserved only.
    pub memory_bytes: u64,
    /// CPU time; the kernel ends the process one second after it.
    pub cpu_seconds: u64,
    /// Descriptors: three for the pipes and one for whatever the C library needs.
    pub files: u64,
}

impl Default for Confine {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, cpu_seconds: 600, files: 8 }
    }
}

/// A limit that could not be set; scanning without it would be a promise broken.
#[derive(Debug, thiserror::Error)]
#[error("cannot limit the worker's {what}: {source}")]
pub struct ConfineError {
    what: &'static str,
    source: rustix::io::Errno,
}

/// Sets the limits of this process, for good: the hard limits go down with the soft ones.
///
/// No file can be written (`RLIMIT_FSIZE` 0 does not touch pipes), no core is left, no privilege can be gained by a program
/// that is run.
///
/// # Errors
/// [`ConfineError`] names the first limit that could not be set.
pub fn confine(limits: &Confine) -> Result<(), ConfineError> {
    let all = [
        ("memory", Resource::As, limits.memory_bytes, limits.memory_bytes),
        // Past the soft limit the kernel sends SIGXCPU, at the hard one SIGKILL.
        ("CPU time", Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1)),
        ("files", Resource::Nofile, limits.files, limits.files),
        ("file size", Resource::Fsize, 0, 0),
        ("core file", Resource::Core, 0, 0),
    ];
    for (what, resource, soft, hard) in all {
        let now = getrlimit(resource);
        // Never above what the process was given.
        let least = |wanted: u64| Some(now.maximum.map_or(wanted, |given| given.min(wanted)));
        let limit = Rlimit { current: least(soft), maximum: least(hard) };
        setrlimit(resource, limit).map_err(|source| ConfineError { what, source })?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|source| ConfineError { what: "privileges", source })
}
