//! Access tokens for machines: `wharf_pat_` and 256 random bits.
//!
//! Rows of `Space::Token`: `id/ID` is the token, where ID is the SHA-256 of its text in hexadecimal; `user/USER/NAME` is
//! the id of a user's token by name.
//!
//! Invariant: the text of a token is shown once and never stored.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use super::UserName;
use crate::access::Scope;

/// What every token starts with, so that secret scanners know it.
const PREFIX: &str = "wharf_pat_";
/// Longest name of a token, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Tokens that one user may have; those that have expired make room for new ones.
const TOKENS_MAX: usize = 500;
/// Expired tokens that go where a new one needs room.
const FORGOTTEN_AT_ONCE: usize = 100;
/// Scopes that one token may have.
const SCOPES_MAX: usize = 64;

/// A token as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccessToken {
    pub user: UserName,
    pub name: TokenName,
    /// What the token is narrowed to; `None` is everything its user may do.
    pub scopes: Option<Vec<Scope>>,
    /// Milliseconds since 1970, by the store's clock.
    pub created_at_ms: u64,
    pub expires_at_ms: u64,
}

/// A token's name among its user's: letters, digits, `.`, `_`, `-` and `@`, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl FromStr for TokenName {
    type Err = NewTokenError;

    fn from_str(text: &str) -> Result<Self, NewTokenError> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(ok) {
            return Err(NewTokenError::Name(text.chars().take(NAME_BYTES_MAX).collect()));
        }
        Ok(TokenName(text.to_owned()))
    }
}

impl TryFrom<String> for TokenName {
    type Error = NewTokenError;

    fn try_from(text: String) -> Result<Self, NewTokenError> {
        text.parse()
    }
}

impl From<TokenName> for String {
    fn from(name: TokenName) -> Self {
        name.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum NewTokenError {
    #[error("`{0}` is not a name for a token; hint: letters, digits, `.`, `_`, `-` and `@`, at most 64")]
    Name(String),
    #[error("`{user}` has a token `{name}` already; hint: revoke it first, or choose another name")]
    Exists { user: UserName, name: TokenName },
    #[error("`{user}` has no token `{name}`; hint: `wharf token ls` shows those there are")]
    Unknown { user: UserName, name: TokenName },
    #[error("`{0}` has {TOKENS_MAX} tokens already; hint: revoke those that are not needed")]
    TooMany(UserName),
    #[error("a token has at most {SCOPES_MAX} scopes")]
    TooManyScopes,
    #[error("this machine gives no random numbers: {0}")]
    Random(rand::rand_core::OsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new token's text, which is shown once.
#[derive(Clone)]
pub struct NewToken(String);

impl NewToken {
    /// 256 bits from the operating system.
    ///
    /// # Errors
    /// Where it gives none.
    pub fn random() -> Result<Self, NewTokenError> {
        let mut bytes = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(NewTokenError::Random)?;
        Ok(NewToken(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text, to be shown to whoever asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(…)")
    }
}

/// Whether a text looks like an access token rather than a password.
pub fn is_access_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

fn id_of(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_key(id: &str) -> Key {
    key(Space::Token, &["id", id])
}

fn name_key(user: &UserName, name: &TokenName) -> Key {
    key(Space::Token, &["user", user.as_str(), &name.0])
}

/// The token of this text and its id. The row is found by a hash of 256 random bits, so that the time the look-up
/// takes tells nothing of use.
///
/// # Errors
/// The store's.
pub async fn find_token(store: &Store, text: &str) -> Result<Option<(String, AccessToken)>, StoreError> {
    let id = id_of(text);
    Ok(by_id(store, &id).await?.map(|token| (id, token)))
}

pub(super) async fn by_id(store: &Store, id: &str) -> Result<Option<AccessToken>, StoreError> {
    store.get(&id_key(id)).await?.map(|row| row.value()).transpose()
}

/// When a token ends, Unix milliseconds; 0 where there is none of this id.
pub async fn token_expires_ms(store: &Store, id: &str) -> Result<u64, StoreError> {
    Ok(by_id(store, id).await?.map_or(0, |token| token.expires_at_ms))
}

/// Stores a token's hash.
///
/// # Errors
/// [`NewTokenError::Exists`] where the user has a token of this name, [`NewTokenError::TooMany`] above 500.
pub async fn create_token(tx: &mut Tx, text: &NewToken, token: &AccessToken) -> Result<(), NewTokenError> {
    if token.scopes.as_ref().is_some_and(|scopes| scopes.len() > SCOPES_MAX) {
        return Err(NewTokenError::TooManyScopes);
    }
    let name = name_key(&token.user, &token.name);
    if tx.get(&name).await?.is_some() {
        return Err(NewTokenError::Exists { user: token.user.clone(), name: token.name.clone() });
    }
    let of_user = KeyRange::prefix(Space::Token, &["user", token.user.as_str()]);
    let rows = tx.scan_all(of_user, TOKENS_MAX).await?;
    if rows.len() >= TOKENS_MAX && forget_expired(tx, &rows).await? == 0 {
        return Err(NewTokenError::TooMany(token.user.clone()));
    }
    let id = id_of(text.reveal());
    tx.put_value(&name, &id)?;
    tx.put_value(&id_key(&id), token)?;
    Ok(())
}

/// Makes room: removes what has expired among a user's tokens, at most [`FORGOTTEN_AT_ONCE`]. Returns how many.
async fn forget_expired(tx: &mut Tx, by_name: &[Row]) -> Result<usize, StoreError> {
    let mut forgotten = 0;
    for row in by_name {
        let id = id_key(&row.value::<String>()?);
        let token: Option<AccessToken> = tx.peek(&id).await?.map(|row| row.value()).transpose()?;
        if token.is_none_or(|token| token.expires_at_ms <= tx.now_ms()) && forgotten < FORGOTTEN_AT_ONCE {
            tx.delete(&id);
            tx.delete(&row.key);
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

/// Revokes a token by name; what was signed on it ends with this commit.
///
/// # Errors
/// [`NewTokenError::Unknown`], or the store's.
pub async fn revoke_token(tx: &mut Tx, user: &UserName, name: &TokenName) -> Result<(), NewTokenError> {
    let by_name = name_key(user, name);
    let Some(row) = tx.get(&by_name).await? else {
        return Err(NewTokenError::Unknown { user: user.clone(), name: name.clone() });
    };
    tx.delete(&id_key(&row.value::<String>()?));
    tx.delete(&by_name);
    Ok(())
}

/// Revokes all tokens of a user who goes.
///
/// # Errors
/// The store's.
pub async fn revoke_all(tx: &mut Tx, user: &UserName) -> Result<(), StoreError> {
    let of_user = KeyRange::prefix(Space::Token, &["user", user.as_str()]);
    for row in tx.scan_all(of_user, TOKENS_MAX).await? {
        tx.delete(&id_key(&row.value::<String>()?));
        tx.delete(&row.key);
    }
    Ok(())
}

/// A page of one user's tokens by name, and whether there are more.
///
/// # Errors
/// The store's.
pub async fn tokens(
    store: &Store,
    user: &UserName,
    after: Option<&TokenName>,
    limit: usize,
) -> Result<(Vec<AccessToken>, bool), StoreError> {
    let mut range = KeyRange::prefix(Space::Token, &["user", user.as_str()]);
    if let Some(after) = after {
        range = range.after(&name_key(user, after));
    }
    let page = store.scan(range, limit).await?;
    let ids = page.rows.iter().map(|row| Ok(id_key(&row.value::<String>()?)));
    let rows = store.get_many(ids.collect::<Result<_, StoreError>>()?).await?;
    let found = rows.iter().flatten().map(|row| row.value()).collect::<Result<_, _>>()?;
    Ok((found, page.more))
}
