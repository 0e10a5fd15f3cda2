//! How a command ends: its exit status, and what it says on standard error when it fails.

use std::io::{self, Write as _};
use std::process::ExitCode;

use http::StatusCode;

use super::client::ClientError;
use super::visible;
use crate::config::ConfigError;

/// Exit status of every command; part of the interface, as scripts test it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was done.
    Done = 0,
    /// It failed, for a reason that none of the others tells.
    Failed = 1,
    /// The command line, a value on it or a settings file is wrong.
    Usage = 2,
    /// A policy holds or rejects it, or what is there already stands against it.
    Refused = 3,
    /// What it names does not exist.
    NotFound = 4,
    /// Not logged in, or not allowed.
    Denied = 5,
    /// The server cannot be reached or cannot serve now: the same command may succeed later.
    Unavailable = 6,
}

impl Exit {
    /// Each status with what it means, for `wharf --help` and the reference page.
    pub(super) const ALL: [(Exit, &str); 7] = [
        (Exit::Done, "done"),
        (Exit::Failed, "failed"),
        (Exit::Usage, "the command line, a value on it or a settings file is wrong"),
        (Exit::Refused, "held or rejected by a policy, or in conflict with what is there"),
        (Exit::NotFound, "not found"),
        (Exit::Denied, "not logged in, or not allowed"),
        (Exit::Unavailable, "the server cannot be reached or is busy: try again"),
    ];

    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The status that a failure ends with.
    pub(super) fn of(error: &anyhow::Error) -> Exit {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return stop.exit;
        }
        if error.is::<ConfigError>() {
            return Exit::Usage;
        }
        // Of a registry: what the server's own client fails of is a `ClientError`.
        if let Some(error) = error.downcast_ref::<reqwest::Error>()
            && (error.is_connect() || error.is_timeout())
            && !is_untrusted(error)
        {
            return Exit::Unavailable;
        }
        match error.downcast_ref::<ClientError>() {
            Some(ClientError::Untrusted { .. }) => Exit::Failed,
            Some(ClientError::Answer { status, .. }) => Exit::of_status(*status),
            Some(ClientError::Unreachable { .. }) => Exit::Unavailable,
            Some(_) => Exit::Usage,
            None => Exit::Failed,
        }
    }

    fn of_status(status: StatusCode) -> Exit {
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
            StatusCode::NOT_FOUND => Exit::NotFound,
            StatusCode::CONFLICT => Exit::Refused,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}

/// Whether a connection failed because of the certificate that the other side showed: another try ends alike.
pub(super) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // The source of an I/O error is that of the error in it, which is itself not in the chain.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inside.is_some_and(|inside| is_untrusted(inside)) || error.source().is_some_and(is_untrusted)
}

/// An end other than "done" that a command decides on itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    pub(super) fn failed(message: impl std::fmt::Display) -> Self {
        Stop { exit: Exit::Failed, message: message.to_string() }
    }

    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Stop { exit: Exit::Usage, message: message.to_string() }
    }

    pub(super) fn refused(message: impl std::fmt::Display) -> Self {
        Stop { exit: Exit::Refused, message: message.to_string() }
    }

    pub(super) fn not_found(message: impl std::fmt::Display) -> Self {
        Stop { exit: Exit::NotFound, message: message.to_string() }
    }

    /// What another server refuses ends as the same answer of a wharf server does.
    pub(super) fn answered(status: StatusCode, message: impl std::fmt::Display) -> Self {
        Stop { exit: Exit::of_status(status), message: message.to_string() }
    }
}

/// `error: …`, the causes after a colon, and each hint on a line of its own.
pub(super) fn text(error: &anyhow::Error) -> String {
    let (mut messages, mut hints) = (Vec::new(), String::new());
    for link in error.chain().map(ToString::to_string) {
        match link.split_once("hint: ") {
            // A list of problems has a hint in each line.
            Some((message, hint)) if !link.contains('\n') => {
                messages.push(message.trim_end().trim_end_matches(';').to_owned());
                hints.push_str(&format!("hint: {hint}\n"));
            }
            _ => messages.push(link),
        }
    }
    format!("error: {}\n{hints}", messages.join(": "))
}

/// Says why on standard error and returns the status. A reader that went away (`wharf events | head`) is no failure.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(gone) {
        return Exit::Done.code();
    }
    // Nothing is left to do where standard error cannot be written either.
    let _ = io::stderr().write_all(visible::lines(&text(error)).as_bytes());
    Exit::of(error).code()
}
