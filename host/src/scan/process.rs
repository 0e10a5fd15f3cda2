//! One worker: started, fed, listened to, and judged by how it ended.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use wharf_scan::worker::{Answer, Answers, CHUNK_BYTES, Request};
use wharf_scan::{Progress, Report};

use super::worker::arguments;
use super::{Input, ScanFailure, Settings};

/// How long a worker may take to end after its last answer, or after its pipes were closed.
const END_WITHIN: Duration = Duration::from_secs(5);
/// What is kept of what a worker says before it dies.
const STDERR_BYTES: u64 = 2048;
const READ_BYTES: usize = 64 << 10;

pub(super) async fn scan(
    program: &Path,
    settings: &Settings,
    config: &[u8],
    layers: Vec<Input>,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Report, ScanFailure> {
    let announced = layers.iter().map(|layer| (&layer.descriptor, layer.bytes.is_some()));
    let opening = Request::open(&settings.limits, config, announced).map_err(ScanFailure::Request)?;
    let mut child = start(program, settings)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(ScanFailure::Start(std::io::Error::other("it has no pipes")));
    };
    // The worker answers while it is still being sent to, so both pipes are served at once. A request that failed ends the
    // pipe, upon which the worker answers or ends; an answer, too, ends the matter.
    let (sent, answered, said) =
        tokio::join!(send(stdin, opening, layers), listen(stdout, &mut progress), last_words(stderr));
    sent?;
    match answered? {
        Some(Answer::Report(report)) => {
            if !said.is_empty() {
                tracing::warn!(?said, "a scan worker has a remark");
            }
            Ok(*report)
        }
        Some(Answer::Failed(why)) => Err(ScanFailure::Refused(why)),
        Some(Answer::Progress(_)) | None => Err(crash(child, said).await),
    }
}

fn start(program: &Path, settings: &Settings) -> Result<Child, ScanFailure> {
    let mut command = Command::new(program);
    command
        .arg0("wharf")
        .args(arguments(&settings.confine()))
        // It needs nothing of this process, so it gets nothing.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // A signal to the server's group, such as Ctrl-C, is not meant for the worker: the server ends it.
        .process_group(0);
    command.spawn().map_err(ScanFailure::Start)
}

/// Sends the request. A worker that reads no further has ended or is about to answer why, and that is the better reason.
async fn send(
    mut stdin: impl AsyncWrite + Unpin,
    opening: Vec<u8>,
    layers: Vec<Input>,
) -> Result<(), ScanFailure> {
    if stdin.write_all(&opening).await.is_err() {
        return Ok(());
    }
    for layer in layers {
        let Some(bytes) = layer.bytes else { continue };
        let digest = layer.descriptor.digest;
        let lost = |cause| ScanFailure::Layer { digest: digest.to_string(), cause };
        let mut pieces = bytes.await.map_err(lost)?;
        while let Some(piece) = pieces.next().await {
            if chunks(&mut stdin, piece.map_err(lost)?).await.is_err() {
                return Ok(());
            }
        }
        if stdin.write_all(&Request::layer_end()).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn chunks(stdin: &mut (impl AsyncWrite + Unpin), mut piece: Bytes) -> std::io::Result<()> {
    while !piece.is_empty() {
        let chunk = piece.split_to(piece.len().min(CHUNK_BYTES));
        stdin.write_all(&Request::chunk_head(chunk.len())).await?;
        stdin.write_all(&chunk).await?;
    }
    Ok(())
}

/// The last answer; `None` if the worker ended without one.
async fn listen(
    mut stdout: impl AsyncRead + Unpin,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<Option<Answer>, ScanFailure> {
    let mut answers = Answers::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n = stdout.read(&mut buffer).await.map_err(ScanFailure::Pipe)?;
        if n == 0 {
            return Ok(None);
        }
        for answer in answers.feed(&buffer[..n]).map_err(ScanFailure::Answer)? {
            match answer {
                Answer::Progress(now) => progress(now),
                last => return Ok(Some(last)),
            }
        }
    }
}

async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    let _ = (&mut stderr).take(STDERR_BYTES).read_to_end(&mut said).await;
    // The rest is read away, or the worker would wait for room.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&said);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect::<Vec<_>>().join("; ")
}

async fn crash(mut child: Child, stderr: String) -> ScanFailure {
    match tokio::time::timeout(END_WITHIN, child.wait()).await {
        Ok(Ok(status)) if is_from_outside(status) => ScanFailure::Killed { how: ended(status) },
        Ok(Ok(status)) => ScanFailure::Crash { how: ended(status), stderr },
        Ok(Err(error)) => ScanFailure::Pipe(error),
        Err(_) => ScanFailure::Crash { how: "closed its pipe and did not end".to_owned(), stderr },
    }
}

/// Whether somebody else ended it: an operator, a stopping system, one that is out of memory.
fn is_from_outside(status: ExitStatus) -> bool {
    const SIGHUP: i32 = 1;
    const SIGINT: i32 = 2;
    const SIGKILL: i32 = 9;
    const SIGTERM: i32 = 15;
    matches!(status.signal(), Some(SIGHUP | SIGINT | SIGKILL | SIGTERM))
}

fn ended(status: ExitStatus) -> String {
    const SIGABRT: i32 = 6;
    const SIGKILL: i32 = 9;
    const SIGSEGV: i32 = 11;
    const SIGXCPU: i32 = 24;
    match (status.signal(), status.code()) {
        (Some(SIGABRT), _) => "aborted".to_owned(),
        (Some(SIGKILL), _) => "was killed".to_owned(),
        (Some(SIGSEGV), _) => "crashed on memory".to_owned(),
        (Some(SIGXCPU), _) => "used up its CPU time".to_owned(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("ended with status {code} and no answer"),
        (None, None) => "ended".to_owned(),
    }
}
