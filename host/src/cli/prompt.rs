//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::exit::Stop;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Asks on standard error and reads a line of standard input.
///
/// # Errors
/// Where nobody can answer.
pub(super) fn ask(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Stop::usage(format!("{question} is not given and standard input is no terminal")).into());
    }
    put(&format!("{question}: "))?;
    line()
}

/// The same, without showing what is typed.
///
/// # Errors
/// As [`ask`].
pub(super) fn ask_secret(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let message = format!(
            "{question} is not given and standard input is no terminal; hint: `--password-stdin` reads it"
        );
        return Err(Stop::usage(message).into());
    }
    put(&format!("{question}: "))?;
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let answer = line();
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    put("\n")?;
    answer
}

/// A secret that is to be: asked twice, as nobody sees what they type.
///
/// # Errors
/// As [`ask`], and where the two differ.
pub(super) fn new_secret(question: &str) -> anyhow::Result<String> {
    let first = ask_secret(question)?;
    if ask_secret(&format!("{question}, again"))? != first {
        return Err(Stop::usage("the two are not the same").into());
    }
    Ok(first)
}

/// The first line of standard input, for `--password-stdin`.
///
/// # Errors
/// Where it is empty or cannot be read.
pub(super) fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Stop::usage("nothing was given on standard input").into());
    }
    Ok(text.to_owned())
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stderr();
    out.write_all(text.as_bytes())?;
    out.flush()
}
