//! Digests computed while bytes arrive, and carried over from one request to the next.

use digest::Digest as _;
use digest::common::hazmat::SerializableState as _;
use sha2::{Sha256, Sha512};

/// sha256 always, sha512 when it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Hashes {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hashes {
    pub(super) fn new(sha512: bool) -> Hashes {
        Hashes { sha256: Sha256::new(), sha512: sha512.then(Sha512::new) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(super) fn has_sha512(&self) -> bool {
        self.sha512.is_some()
    }

    /// `sha256:<hex>` and, where computed, `sha512:<hex>`.
    pub(super) fn finish(self) -> (String, Option<String>) {
        let sha256 = format!("sha256:{}", hex(&self.sha256.finalize()));
        (sha256, self.sha512.map(|sha512| format!("sha512:{}", hex(&sha512.finalize()))))
    }

    /// The running state as text, for [`Hashes::restore`].
    pub(super) fn save(&self) -> (String, Option<String>) {
        (hex(&self.sha256.serialize()), self.sha512.as_ref().map(|sha512| hex(&sha512.serialize())))
    }

    /// None if the text is not a state this version of the hash functions understands.
    pub(super) fn restore(sha256: &str, sha512: Option<&str>) -> Option<Hashes> {
        let sha256 = Sha256::deserialize(unhex(sha256)?.as_slice().try_into().ok()?).ok()?;
        let sha512 = match sha512 {
            Some(state) => Some(Sha512::deserialize(unhex(state)?.as_slice().try_into().ok()?).ok()?),
            None => None,
        };
        Some(Hashes { sha256, sha512 })
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |b: &u8| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char];
    bytes.iter().flat_map(digits).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_state_goes_on_where_it_was() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        let mut whole = Hashes::new(true);
        whole.update(&bytes);
        let whole = whole.finish();
        for cut in [0, 1, 63, 64, 65, 127, 128, 500, 1000] {
            let mut first = Hashes::new(true);
            first.update(&bytes[..cut]);
            let (sha256, sha512) = first.save();
            let mut second = Hashes::restore(&sha256, sha512.as_deref()).unwrap();
            second.update(&bytes[cut..]);
            assert_eq!(second.finish(), whole);
        }
        assert!(Hashes::restore("00", None).is_none());
        assert!(Hashes::restore("zz", None).is_none());
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let mut hashes = Hashes::new(false);
        hashes.update(b"abc");
        let (sha256, sha512) = hashes.finish();
        assert_eq!(sha256, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha512, None);
    }
}
