//! The worker's side: the hidden command `wharf scan-worker`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use wharf_scan::worker::{Confine, Confined, confine, serve};

/// Name of the hidden command.
pub const WORKER: &str = "scan-worker";

const SECCOMP_HINT: &str = "hint: scans go on with their other limits; a kernel with CONFIG_SECCOMP_FILTER, or a container that allows \
     seccomp(2), adds this one";

/// What the server starts a worker with; [`run`] reads it.
pub(super) fn arguments(limits: &Confine) -> [String; 3] {
    [WORKER.to_owned(), limits.memory_bytes.to_string(), limits.cpu_seconds.to_string()]
}

/// Runs a worker on the standard pipes, with the arguments that follow the command's name. To be called before anything
/// starts a thread: each would reserve address space that is limited.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let done = read(arguments).map_err(anyhow::Error::msg).and_then(|limits| {
        if let Confined::ButSystemCalls(error) = confine(&limits)? {
            // The server logs it. There is nobody to tell if this fails.
            let _ = writeln!(io::stderr(), "system calls are not limited: {error}; {SECCOMP_HINT}");
        }
        // Unlocked, as the lock of standard input cannot be sent between threads.
        Ok(serve(io::stdin(), io::BufWriter::new(io::stdout().lock()))?)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody to tell if this fails.
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: impl Iterator<Item = String>) -> Result<Confine, String> {
    let numbers: Vec<u64> = arguments
        .map(|text| text.parse().map_err(|_| format!("`{text}` is no limit of a scan worker")))
        .collect::<Result<_, _>>()?;
    match numbers[..] {
        [memory_bytes, cpu_seconds] => Ok(Confine { memory_bytes, cpu_seconds }),
        _ => Err("a scan worker is started by the server, not by hand; hint: `wharf scan`".to_owned()),
    }
}
