//! JSON text put together while a plugin compiles, so that its manifest can be a section of the file.
//!
//! Invariant: whatever is appended by [`Json::string`] is escaped; [`Json::raw`] is for text that is JSON already.

/// The longest manifest, in bytes; a longer one does not compile. The host reads at most 64 KiB.
pub const MAX_MANIFEST_BYTES: usize = 32 * 1024;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A bounded buffer that constant functions append to.
#[derive(Clone, Copy)]
pub struct Json {
    bytes: [u8; MAX_MANIFEST_BYTES],
    len: usize,
}

impl Json {
    pub const fn new() -> Self {
        Json { bytes: [0; MAX_MANIFEST_BYTES], len: 0 }
    }

    const fn byte(&mut self, byte: u8) {
        assert!(self.len < MAX_MANIFEST_BYTES, "the plugin's manifest is longer than 32 KiB");
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    const fn append(&mut self, text: &[u8]) {
        let mut at = 0;
        while at < text.len() {
            self.byte(text[at]);
            at += 1;
        }
    }

    /// Appends text that is JSON already.
    pub const fn raw(mut self, text: &str) -> Self {
        self.append(text.as_bytes());
        self
    }

    /// Appends a quoted and escaped string.
    pub const fn string(mut self, text: &str) -> Self {
        self.byte(b'"');
        self.escaped(text);
        self.byte(b'"');
        self
    }

    /// Appends one string made of the lines of a doc comment, joined by spaces.
    pub const fn doc(mut self, lines: &[&str]) -> Self {
        self.byte(b'"');
        let mut at = 0;
        while at < lines.len() {
            if at > 0 {
                self.byte(b' ');
            }
            self.escaped(lines[at].trim_ascii());
            at += 1;
        }
        self.byte(b'"');
        self
    }

    const fn escaped(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut at = 0;
        while at < text.len() {
            match text[at] {
                quoted @ (b'"' | b'\\') => {
                    self.byte(b'\\');
                    self.byte(quoted);
                }
                control @ 0..0x20 => {
                    self.append(b"\\u00");
                    self.byte(HEX[(control >> 4) as usize]);
                    self.byte(HEX[(control & 15) as usize]);
                }
                plain => self.byte(plain),
            }
            at += 1;
        }
    }

    /// Appends what another buffer holds.
    pub const fn json(mut self, other: &Json) -> Self {
        let mut at = 0;
        while at < other.len {
            self.byte(other.bytes[at]);
            at += 1;
        }
        self
    }

    /// Appends a comma, unless an object or array has just begun.
    pub const fn comma(mut self) -> Self {
        if self.len > 0 && !matches!(self.bytes[self.len - 1], b'{' | b'[') {
            self.byte(b',');
        }
        self
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The text so far. Only whole strings were appended, so it is UTF-8.
    pub const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    /// The first `N` bytes; `N` is [`Json::len`] for a section that holds exactly this text.
    pub const fn take<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        let mut at = 0;
        while at < N {
            out[at] = self.bytes[at];
            at += 1;
        }
        out
    }
}

impl Default for Json {
    fn default() -> Self {
        Json::new()
    }
}

impl core::fmt::Debug for Json {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn what_is_written_is_read_back() {
        const TEXT: Json = Json::new()
            .raw("[")
            .comma()
            .string("a \"quote\" \\ \n tab\t é")
            .comma()
            .doc(&[" First line,", " second."]);
        let read: Vec<String> = serde_json::from_str(TEXT.raw("]").as_str()).unwrap();
        assert_eq!(read, ["a \"quote\" \\ \n tab\t é", "First line, second."]);
    }
}
