//! What a worker takes away from itself before it reads the first byte.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits that the kernel enforces on the worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confine {
    /// Address space in bytes beyond what the program itself maps. Memory that is only reserved counts, too.
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
#[error("cannot limit the worker's {what}: {cause}")]
pub struct ConfineError {
    what: &'static str,
    cause: io::Error,
}

/// Sets the limits of this process, for good: the hard limits go down with the soft ones.
///
/// No file can be written (`RLIMIT_FSIZE` 0 does not touch pipes), no core is left, no privilege can be gained by a program
/// that is run.
///
/// # Errors
/// [`ConfineError`] names the first limit that could not be set.
pub fn confine(limits: &Confine) -> Result<(), ConfineError> {
    let mapped = mapped_bytes().map_err(|cause| ConfineError { what: "memory", cause })?;
    let memory = mapped.saturating_add(limits.memory_bytes);
    let all = [
        ("memory", Resource::As, memory, memory),
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
        setrlimit(resource, limit).map_err(|cause| ConfineError { what, cause: cause.into() })?;
    }
    rustix::thread::set_no_new_privs(true)
        .map_err(|cause| ConfineError { what: "privileges", cause: cause.into() })
}

/// Address space that this process has now: the program's text, its libraries and stack (proc(5), `statm`).
fn mapped_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::other("`/proc/self/statm` is not of its form"))?;
    Ok(pages * rustix::param::page_size() as u64)
}
