//! Tokens that the server signs for a few minutes: JSON Web Tokens (RFC 7519), HMAC with SHA-256.
//!
//! The one who signs is the one who verifies, so there is one algorithm and one key, and the header is compared as
//! text instead of being believed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::access::Scope;

/// How long an access token holds, in seconds. Clients ask again by themselves.
pub const ACCESS_TTL_S: u64 = 300;
/// How long a refresh token holds, in seconds: what `docker login` keeps instead of the password.
pub const REFRESH_TTL_S: u64 = 90 * 24 * 3600;
/// Longest token looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To act with.
    Access,
    /// To ask for access tokens with.
    Refresh,
}

/// What a token says (its claims).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer {
    #[serde(rename = "sub")]
    pub subject: String,
    pub kind: Kind,
    /// Seconds since 1970.
    #[serde(rename = "iat")]
    pub issued_at_s: u64,
    #[serde(rename = "exp")]
    pub expires_at_s: u64,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// The commit that set the password it was signed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_rev: Option<u64>,
    /// The access token it was signed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
}

/// Why a token is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    #[error("it is not a token of this server")]
    Malformed,
    #[error("its signature is wrong")]
    Signature,
    #[error("it has expired")]
    Expired,
    #[error("it is not for this use")]
    Kind,
}

/// Signs and verifies.
pub struct Signer(hmac::Key);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    pub fn new(key: &[u8; 32]) -> Self {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub fn sign(&self, bearer: &Bearer) -> Result<String, serde_json::Error> {
        let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(bearer)?);
        let signed = format!("{HEADER}.{claims}");
        let tag = hmac::sign(&self.0, signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// What a token says, once its signature (in constant time), kind and time are checked.
    ///
    /// # Errors
    /// See [`BearerError`].
    pub fn verify(&self, token: &str, kind: Kind, now_s: u64) -> Result<Bearer, BearerError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BearerError::Malformed);
        }
        let (signed, tag) = token.rsplit_once('.').ok_or(BearerError::Malformed)?;
        let claims = signed.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('.'));
        let claims = claims.ok_or(BearerError::Malformed)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| BearerError::Malformed)?;
        hmac::verify(&self.0, signed.as_bytes(), &tag).map_err(|_| BearerError::Signature)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| BearerError::Malformed)?;
        let bearer: Bearer = serde_json::from_slice(&claims).map_err(|_| BearerError::Malformed)?;
        if bearer.kind != kind {
            return Err(BearerError::Kind);
        }
        if bearer.expires_at_s <= now_s {
            return Err(BearerError::Expired);
        }
        Ok(bearer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer() -> Bearer {
        Bearer {
            subject: "alice".into(),
            kind: Kind::Access,
            issued_at_s: 100,
            expires_at_s: 400,
            scopes: Some(vec!["dev/*:pull".parse().unwrap()]),
            password_rev: Some(7),
            token_id: None,
        }
    }

    #[test]
    fn the_header_is_what_it_says() {
        assert_eq!(URL_SAFE_NO_PAD.decode(HEADER).unwrap(), br#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn a_token_says_what_was_signed_until_it_expires() {
        let signer = Signer::new(&[1; 32]);
        let token = signer.sign(&bearer()).unwrap();
        assert_eq!(signer.verify(&token, Kind::Access, 399), Ok(bearer()));
        assert_eq!(signer.verify(&token, Kind::Access, 400), Err(BearerError::Expired));
        assert_eq!(signer.verify(&token, Kind::Refresh, 399), Err(BearerError::Kind));
        assert_eq!(Signer::new(&[2; 32]).verify(&token, Kind::Access, 399), Err(BearerError::Signature));
    }

    #[test]
    fn another_algorithm_is_not_believed() {
        let signer = Signer::new(&[1; 32]);
        let token = signer.sign(&bearer()).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let none = URL_SAFE_NO_PAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(signer.verify(&format!("{none}.{claims}."), Kind::Access, 1), Err(BearerError::Malformed));
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_token(at in 0usize..200, bit in 0u8..7) {
            let signer = Signer::new(&[1; 32]);
            let mut bytes = signer.sign(&bearer()).unwrap().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(bytes) {
                // The last character carries two bits that base64 does not use; a decoder that is strict refuses them.
                prop_assert!(signer.verify(&text, Kind::Access, 1).is_err());
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,300}") {
            prop_assert!(Signer::new(&[1; 32]).verify(&text, Kind::Access, 1).is_err());
        }
    }
}
