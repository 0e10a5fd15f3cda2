//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::runtime::Runtime;
use tokio::signal::unix::{self, SignalKind};

use super::exit::Stop;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// Asks on standard error and reads a line of standard input.
///
/// # Errors
/// Where nobody can answer; `hint` says what to do then.
pub(super) fn ask(question: &str, hint: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        let message = format!("{question} is not given and standard input is no terminal; hint: {hint}");
        return Err(Stop::usage(message).into());
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
    given(&hidden_line(&format!("{question}: "))?)
}

/// What ends the line besides Enter, and the signal that it stands for: Ctrl-C and Ctrl-\. The terminal would kill this
/// process at once, and go on without echo; so it hands them over as line ends until it is as it was before.
const INTERRUPTS: [(SpecialCodeIndex, SpecialCodeIndex, Signal); 2] = [
    (SpecialCodeIndex::VINTR, SpecialCodeIndex::VEOL, Signal::INT),
    (SpecialCodeIndex::VQUIT, SpecialCodeIndex::VEOL2, Signal::QUIT),
];
/// A special character that does not exist (`_POSIX_VDISABLE` of Linux).
const DISABLED: u8 = 0;

/// Reads a line from the terminal without showing it. The question comes once nothing is shown any more: whoever answers at
/// once is not seen either.
fn hidden_line(question: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    for (code, line_end, _) in INTERRUPTS {
        hidden.special_codes[line_end] = shown.special_codes[code];
        hidden.special_codes[code] = DISABLED;
    }
    let interrupts = INTERRUPTS.map(|(code, _, signal)| (shown.special_codes[code], signal));
    restore_at_signals(shown.clone())?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let read = put(question).and_then(|()| read_line(&mut stdin.lock(), &interrupts));
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    put("\n")?;
    let (line, signal) = read?;
    if let Some(signal) = signal {
        // As the terminal would have done it: whatever started this command is to hear of it, too.
        kill_current_process_group(signal)?;
        return Err(Stop::failed("interrupted").into());
    }
    Ok(String::from_utf8(line)?)
}

/// From now on a signal from elsewhere that ends this process gives the terminal back before it does. A thread waits for it:
/// the one that asks stands still until the line's end.
fn restore_at_signals(shown: Termios) -> anyhow::Result<()> {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let listened = listen();
        let Ok((runtime, mut terminate, mut hangup)) = listened else {
            let _ = ready.send(listened.map(drop));
            return;
        };
        let _ = ready.send(Ok(()));
        let signal = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => Signal::TERM,
                _ = hangup.recv() => Signal::HUP,
            }
        });
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &shown);
        // As a shell tells of whoever a signal has ended.
        std::process::exit(128 + signal.as_raw());
    });
    Ok(is_ready.recv()??)
}

fn listen() -> io::Result<(Runtime, unix::Signal, unix::Signal)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let signals = (unix::signal(SignalKind::terminate())?, unix::signal(SignalKind::hangup())?);
    drop(inside);
    Ok((runtime, signals.0, signals.1))
}

/// Reads to the line's end, or to one of the interrupts, whose signal is then returned.
fn read_line(input: &mut impl BufRead, interrupts: &[(u8, Signal)]) -> io::Result<(Vec<u8>, Option<Signal>)> {
    let signal = |byte: u8| interrupts.iter().find(|(code, _)| *code == byte && byte != DISABLED);
    let mut line = Vec::new();
    for byte in input.take(LINE_BYTES_MAX).bytes() {
        match byte? {
            b'\n' => break,
            byte => match signal(byte) {
                Some((_, signal)) => return Ok((line, Some(*signal))),
                None => line.push(byte),
            },
        }
    }
    Ok((line, None))
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

/// The next line of standard input, for `--password-stdin`.
///
/// # Errors
/// Where it is empty or cannot be read.
pub(super) fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut text)?;
    given(&text)
}

/// Whether standard input goes on behind the lines that were read.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn has_more() -> anyhow::Result<bool> {
    Ok(!io::stdin().lock().fill_buf()?.is_empty())
}

fn given(text: &str) -> anyhow::Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_enter_or_at_an_interrupt() {
        let interrupts = [(3, Signal::INT), (DISABLED, Signal::QUIT)];
        let check = |mut input: &[u8], line: &[u8], signal: Option<Signal>| {
            assert_eq!(read_line(&mut input, &interrupts).unwrap(), (line.to_vec(), signal), "{input:?}");
        };
        check(b"secret\nmore", b"secret", None);
        check(b"secret", b"secret", None);
        check(b"sec\x03", b"sec", Some(Signal::INT));
        check(b"a\0b\n", b"a\0b", None);
    }
}
