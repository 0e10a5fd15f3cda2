//! What the layers of an attestation are by their bytes.
//!
//! An attestation runs nowhere, so it is neither scanned nor judged. That its layers are statements is what their type says, which is
//! the pusher's word; and podman unpacks a layer by its bytes, whatever its type.

use std::ops::Range;

/// Bytes of a layer that are looked at: the first header of a tar.
pub const HEAD_BYTES: usize = 512;
/// Where that has its checksum, in octal digits: the sum of all its bytes, these taken for spaces.
const CHECKSUM: Range<usize> = 148..156;

/// Whether what begins so may be a statement: JSON, as which no compressed archive begins, and no tar, which may begin as anything.
pub fn may_be(head: &[u8]) -> bool {
    head.trim_ascii_start().starts_with(b"{") && !head.first_chunk().is_some_and(is_tar)
}

fn is_tar(head: &[u8; HEAD_BYTES]) -> bool {
    let digits = head[CHECKSUM].iter().skip_while(|byte| matches!(byte, b' ' | 0));
    let digits = digits.take_while(|byte| (b'0'..=b'7').contains(byte));
    let said = digits.fold(0, |said, digit| said * 8 + i64::from(digit - b'0'));
    // Old programs took bytes for signed, and readers take either sum.
    said == sum(head, i64::from) || said == sum(head, |byte| i64::from(byte.cast_signed()))
}

fn sum(head: &[u8; HEAD_BYTES], of: impl Fn(u8) -> i64) -> i64 {
    head.iter().enumerate().map(|(at, byte)| of(if CHECKSUM.contains(&at) { b' ' } else { *byte })).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of the oldest form, of nothing that JSON could not have, for a file of that name.
    fn header(name: &str, of: impl Fn(u8) -> i64) -> Vec<u8> {
        let mut head = [b' '; HEAD_BYTES];
        head[..name.len()].copy_from_slice(name.as_bytes());
        let digits = format!("{:07o} ", sum(&head, of));
        head[CHECKSUM].copy_from_slice(digits.as_bytes());
        head.to_vec()
    }

    #[test]
    fn an_archive_is_no_statement_whatever_it_begins_with() {
        let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1","predicate":{}}"#;
        assert!(may_be(statement) && may_be(b"{}") && may_be(b"\n {"));
        assert!(may_be(&[statement.as_slice(), &[b' '; HEAD_BYTES]].concat()));
        let archives = [&b""[..], b"[]", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"];
        for head in archives {
            assert!(!may_be(head), "{head:?}");
        }
        let name = "{\"é\":\"";
        for head in [header(name, i64::from), header(name, |byte| i64::from(byte.cast_signed()))] {
            assert!(!may_be(&head) && !may_be(&[head, vec![b'x'; 600]].concat()));
        }
    }
}
