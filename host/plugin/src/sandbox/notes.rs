//! What a call leaves behind: reasons, chosen targets, the time of the next look; and its log lines.

use serde::{Deserialize, Serialize};

use super::LimitHit;

/// The longest code of a reason, in bytes.
const MAX_CODE_BYTES: usize = 64;

/// What every reason counts besides its texts, in bytes.
const REASON_BYTES: usize = 16;

/// Why a policy came to its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub text: String,
}

/// What a call wrote into its report.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) reasons: Vec<Reason>,
    pub(crate) targets: Vec<String>,
    pub(crate) chosen: Vec<String>,
    pub(crate) recheck_at_ms: Option<u64>,
    bytes_left: usize,
}

impl Notes {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            reasons: Vec::new(),
            targets: Vec::new(),
            chosen: Vec::new(),
            recheck_at_ms: None,
            bytes_left: max_bytes,
        }
    }

    /// Counts bytes that the plugin hands out.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), LimitHit> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(LimitHit::Output)?;
        Ok(())
    }

    /// False: the code is too long.
    pub(crate) fn reason(&mut self, code: String, text: String) -> Result<bool, LimitHit> {
        if code.len() > MAX_CODE_BYTES {
            return Ok(false);
        }
        self.charge(REASON_BYTES + code.len() + text.len())?;
        self.reasons.push(Reason { code, text });
        Ok(true)
    }

    /// False: the binding has no such target.
    pub(crate) fn choose(&mut self, target: &str) -> bool {
        let listed = self.targets.iter().any(|one| one == target);
        if listed && !self.chosen.iter().any(|one| one == target) {
            self.chosen.push(target.to_owned());
        }
        listed
    }

    pub(crate) fn recheck_at(&mut self, at_ms: u64) {
        self.recheck_at_ms = Some(self.recheck_at_ms.map_or(at_ms, |earliest| earliest.min(at_ms)));
    }
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the usual four")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// A line that a plugin wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How much it matters; of standard output `info`, of standard error `warn`.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
}

/// The lines of one call, up to its limit.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped_bytes: usize,
    bytes_left: usize,
}

/// What every line counts besides its text, in bytes.
const LINE_BYTES: usize = 16;

impl Log {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { lines: Vec::new(), dropped_bytes: 0, bytes_left: max_bytes }
    }

    /// Keeps as much of the line as there is room for.
    pub(crate) fn write(&mut self, level: LogLevel, message: &str) {
        let room = self.bytes_left.saturating_sub(LINE_BYTES);
        let kept = message.floor_char_boundary(room);
        self.dropped_bytes = self.dropped_bytes.saturating_add(message.len() - kept);
        if room == 0 {
            return;
        }
        self.bytes_left = room - kept;
        self.lines.push(LogLine { level, message: message[..kept].to_owned() });
    }

    /// Standard output and error come in pieces: a piece goes on with the last line of its level until that has ended.
    pub(crate) fn write_stream(&mut self, level: LogLevel, bytes: &[u8]) {
        for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            match self.lines.last_mut() {
                Some(last)
                    if last.level == level
                        && !last.message.ends_with('\n')
                        && self.bytes_left >= piece.len() =>
                {
                    self.bytes_left -= piece.len();
                    last.message.push_str(piece);
                }
                _ => self.write(level, piece),
            }
        }
    }
}
