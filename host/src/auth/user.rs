//! Accounts: rows of `Space::User`, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_store::{Key, KeyRange, Rev, Space, Store, StoreError, Tx, key};

/// Longest user name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Names that mean something else as a principal or a subject.
const RESERVED: [&str; 5] = ["anonymous", "authenticated", "system", "user", "token"];

/// A user's name: a lower-case letter or digit, then also `.`, `_` and `-`; at most 64 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Box<str>);

impl UserName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let ok = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if !starts || text.len() > NAME_BYTES_MAX || !text.bytes().all(ok) {
            return Err(UserError::Name(text.chars().take(NAME_BYTES_MAX).collect()));
        }
        if RESERVED.contains(&text) {
            return Err(UserError::Reserved(text.to_owned()));
        }
        Ok(UserName(text.into()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for UserName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UserName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An account. The row is written only when the password changes: its revision is what a signed token stands on.
#[derive(Clone, Serialize, Deserialize)]
pub struct User {
    /// argon2id in PHC form; none for a service account, which has access tokens alone.
    pub password_hash: Option<String>,
    /// Milliseconds since 1970, by the store's clock.
    pub created_at_ms: u64,
    pub created_by: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("created_at_ms", &self.created_at_ms).finish_non_exhaustive()
    }
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error(
        "`{0}` is not a user name; hint: lower-case letters and digits, then also `.`, `_` and `-`, at most 64"
    )]
    Name(String),
    #[error("`{0}` is reserved; hint: choose another name")]
    Reserved(String),
    #[error("there is a user `{0}` already")]
    Exists(UserName),
    #[error("there is no user `{0}`; hint: `wharf user ls` shows those there are")]
    Unknown(UserName),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn user_key(name: &UserName) -> Key {
    key(Space::User, &[name.as_str()])
}

/// An account and the commit that last set its password.
///
/// # Errors
/// The store's.
pub async fn find_user(store: &Store, name: &UserName) -> Result<Option<(User, Rev)>, StoreError> {
    let Some(row) = store.get(&user_key(name)).await? else { return Ok(None) };
    Ok(Some((row.value()?, row.rev)))
}

/// A page of accounts by name, and whether there are more.
///
/// # Errors
/// The store's.
pub async fn users(
    store: &Store,
    after: Option<&UserName>,
    limit: usize,
) -> Result<(Vec<(UserName, User)>, bool), StoreError> {
    let mut range = KeyRange::all(Space::User);
    if let Some(after) = after {
        range = range.after(&user_key(after));
    }
    let page = store.scan(range, limit).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let Some(Ok(name)) = row.key.part(0).map(|name| name.parse()) else { continue };
        found.push((name, row.value()?));
    }
    Ok((found, page.more))
}

/// Adds an account.
///
/// # Errors
/// [`UserError::Exists`], or the store's.
pub async fn add_user(
    tx: &mut Tx,
    name: &UserName,
    password_hash: Option<String>,
    by: &str,
) -> Result<(), UserError> {
    let key = user_key(name);
    if tx.get(&key).await?.is_some() {
        return Err(UserError::Exists(name.clone()));
    }
    let user = User { password_hash, created_at_ms: tx.now_ms(), created_by: by.to_owned() };
    tx.put_value(&key, &user)?;
    Ok(())
}

/// Sets a password; tokens signed on the old one end with this commit.
///
/// # Errors
/// [`UserError::Unknown`], or the store's.
pub async fn set_password(tx: &mut Tx, name: &UserName, password_hash: String) -> Result<(), UserError> {
    let key = user_key(name);
    let Some(row) = tx.get(&key).await? else { return Err(UserError::Unknown(name.clone())) };
    let mut user: User = row.value()?;
    user.password_hash = Some(password_hash);
    tx.put_value(&key, &user)?;
    Ok(())
}

/// Removes an account; its tokens and grants are the flow's to remove.
///
/// # Errors
/// [`UserError::Unknown`], or the store's.
pub async fn remove_user(tx: &mut Tx, name: &UserName) -> Result<(), UserError> {
    let key = user_key(name);
    if tx.get(&key).await?.is_none() {
        return Err(UserError::Unknown(name.clone()));
    }
    tx.delete(&key);
    Ok(())
}

/// Passes where there is this account, and expects it to be there still when the transaction is committed.
///
/// # Errors
/// [`UserError::Unknown`], or the store's.
pub async fn expect_user(tx: &mut Tx, name: &UserName) -> Result<(), UserError> {
    match tx.get(&user_key(name)).await? {
        Some(_) => Ok(()),
        None => Err(UserError::Unknown(name.clone())),
    }
}
