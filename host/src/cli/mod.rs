//! The command line.

use std::process::ExitCode;

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
