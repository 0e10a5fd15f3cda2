//! Text that a client carries from one request to the next and can neither read nor make.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf;
use wharf_store::StoreError;

/// Sealed text is as long as the next multiple of this, bytes: its length says nothing of what is in it.
const PADDED_TO: usize = 256;
/// What a sealed place begins with, and no name.
pub const SEALED: char = '~';
/// What the key is derived for.
const PURPOSE: &[u8] = b"wharf sealed text 1";

/// Seals and opens.
pub struct Seal(LessSafeKey);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// With a key of its own, derived from `key`.
    pub(super) fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key);
        let key = UnboundKey::from(derived.expand(&[PURPOSE], &CHACHA20_POLY1305)?);
        Ok(Seal(LessSafeKey::new(key)))
    }

    /// A place in a list that its reader need not see, to go on from. [`Seal::open_place`] takes it back.
    ///
    /// # Errors
    /// Where it cannot be sealed, as it is longer than any memory.
    pub fn seal_place(&self, place: &str) -> Result<String, StoreError> {
        let sealed = self.seal(place);
        let sealed = sealed.map_err(|_| StoreError::Encode("a place in a list cannot be sealed".into()))?;
        Ok(format!("{SEALED}{sealed}"))
    }

    /// A place that a client gave: opened where it is sealed, else as it stands. None where it is sealed with another key.
    pub fn open_place(&self, text: &str) -> Option<String> {
        match text.strip_prefix(SEALED) {
            Some(sealed) => self.open(sealed),
            None => Some(text.to_owned()),
        }
    }

    /// The text, sealed: letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// Where it is longer than any memory.
    fn seal(&self, text: &str) -> Result<String, Unspecified> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(PADDED_TO), 0);
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)?;
        bytes.splice(..0, nonce);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What [`Seal::seal`] was given; none where this was sealed with another key, or is no sealed text.
    fn open(&self, sealed: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let text = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), rest).ok()?;
        Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_alone() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let sealed = seal.seal("team/app").unwrap();
        assert_eq!(seal.open(&sealed).as_deref(), Some("team/app"));
        assert_eq!(Seal::new(&[2; 32]).unwrap().open(&sealed), None);
        assert_ne!(seal.seal("team/app").unwrap(), sealed);
        assert_eq!(seal.seal("a").unwrap().len(), sealed.len());
    }

    proptest! {
        #[test]
        fn no_other_text_is_opened(at in 0usize..300, text in ".{0,300}") {
            let seal = Seal::new(&[1; 32]).unwrap();
            prop_assert_eq!(seal.open(&text), None);
            let mut sealed = seal.seal("team/app").unwrap().into_bytes();
            sealed[at] = if sealed[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(seal.open(&String::from_utf8(sealed).unwrap()), None);
        }
    }
}
