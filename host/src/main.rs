use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // Before all else: a worker limits itself, and what is set up for other commands would count against its limits.
    if arguments.next().as_deref() == Some(wharf::scan::WORKER) {
        return wharf::scan::run_worker(arguments);
    }
    wharf::cli::run()
}
