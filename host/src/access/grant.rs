//! Grants as rows: subject × role × resource.
//!
//! Rows of `Space::Grant`: `version {count}`, written by each change so that a reader knows whether what it holds is
//! current; `grant/SUBJECT/PATTERN/ROLE {by, at_ms}`; `suspended/NAME {by, at_ms}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_oci::RepoPattern;
use wharf_store::{Key, KeyRange, Row, Space, Store, StoreError, Tx, key};

use super::Action;

/// Whoever does not log in.
pub const ANONYMOUS: &str = "anonymous";
/// Whoever does.
pub const AUTHENTICATED: &str = "authenticated";

/// Grants and suspensions together; each host holds all of them in memory.
const GRANTS_MAX: u32 = 20_000;
/// Rows read at once.
pub(super) const PAGE: usize = 1000;
/// Grants of one user at most, so that all of them go in the one commit that removes the user.
const GRANTS_OF_USER_MAX: usize = 500;

/// To whom something is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    User(String),
    Authenticated,
    Anonymous,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(name) => write!(f, "user:{name}"),
            Subject::Authenticated => f.write_str(AUTHENTICATED),
            Subject::Anonymous => f.write_str(ANONYMOUS),
        }
    }
}

impl FromStr for Subject {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        match text {
            AUTHENTICATED => Ok(Subject::Authenticated),
            ANONYMOUS => Ok(Subject::Anonymous),
            _ => match text.strip_prefix("user:") {
                Some(name) if !name.is_empty() => Ok(Subject::User(name.to_owned())),
                _ => Err(GrantError::Subject(text.chars().take(128).collect())),
            },
        }
    }
}

/// A set of actions with a name. Closed for now; a role of one's own would be a row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Pull, and read scans and decisions.
    Read,
    /// Also push.
    Write,
    /// Also delete, promote by hand, bind policies, change settings.
    Maintain,
    /// Everything; over `**` also users, grants, plugins and jobs.
    Admin,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Read, Role::Write, Role::Maintain, Role::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Write => "write",
            Role::Maintain => "maintain",
            Role::Admin => "admin",
        }
    }

    pub fn allows(self, action: Action) -> bool {
        let least = match action {
            Action::List | Action::Pull => Role::Read,
            Action::Push => Role::Write,
            Action::Delete | Action::Maintain => Role::Maintain,
            Action::Administer => Role::Admin,
        };
        self >= least
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| GrantError::Role(text.chars().take(128).collect()))
    }
}

/// One subject's role over the repositories of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    pub subject: Subject,
    pub role: Role,
    pub pattern: RepoPattern,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.subject, self.role, self.pattern)
    }
}

/// A grant with who made it.
#[derive(Debug, Clone)]
pub struct GrantRow {
    pub grant: Grant,
    pub by: String,
    /// Milliseconds since 1970, by the store's clock.
    pub at_ms: u64,
}

/// Why grants were not changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("`{0}` is not a subject; hint: `user:NAME`, `authenticated` or `anonymous`")]
    Subject(String),
    #[error("`{0}` is not a role; hint: read, write, maintain or admin")]
    Role(String),
    #[error("there is no grant `{0}`; hint: `wharf grant ls` shows those there are")]
    NoSuchGrant(Grant),
    #[error(
        "this would leave nobody to administer the server; hint: grant `admin` over `**` to somebody else first"
    )]
    LastAdmin,
    #[error(
        "there are {GRANTS_MAX} grants already; hint: grant over patterns rather than repository by repository"
    )]
    TooMany,
    #[error(
        "`{0}` has {GRANTS_OF_USER_MAX} grants already; hint: grant over patterns rather than repository by repository"
    )]
    TooManyOf(Subject),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Version {
    count: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Made {
    by: String,
    at_ms: u64,
}

pub(super) fn version_key() -> Key {
    key(Space::Grant, &["version"])
}

fn suspended_key(user: &str) -> Key {
    key(Space::Grant, &["suspended", user])
}

fn grant_key(grant: &Grant) -> Key {
    let subject = grant.subject.to_string();
    key(Space::Grant, &["grant", &subject, grant.pattern.as_str(), grant.role.name()])
}

/// Counts a change, which also tells every reader that there was one.
async fn touch(tx: &mut Tx, more: i64) -> Result<(), GrantError> {
    let version: Version = match tx.get(&version_key()).await? {
        Some(row) => row.value()?,
        None => Version::default(),
    };
    let count = u32::try_from((i64::from(version.count) + more).max(0)).unwrap_or(u32::MAX);
    if more > 0 && count > GRANTS_MAX {
        return Err(GrantError::TooMany);
    }
    tx.put_value(&version_key(), &Version { count })?;
    Ok(())
}

/// Adds a grant; `false` where it was there already.
///
/// # Errors
/// [`GrantError::TooMany`] above 20,000, [`GrantError::TooManyOf`] above 500 of one user, or the store's.
pub async fn add(tx: &mut Tx, grant: &Grant, by: &str) -> Result<bool, GrantError> {
    let key = grant_key(grant);
    if tx.get(&key).await?.is_some() {
        return Ok(false);
    }
    if matches!(grant.subject, Subject::User(_)) {
        let of_user = KeyRange::prefix(Space::Grant, &["grant", &grant.subject.to_string()]);
        if tx.scan_all(of_user, GRANTS_OF_USER_MAX).await?.len() >= GRANTS_OF_USER_MAX {
            return Err(GrantError::TooManyOf(grant.subject.clone()));
        }
    }
    let made = Made { by: by.to_owned(), at_ms: tx.now_ms() };
    tx.put_value(&key, &made)?;
    touch(tx, 1).await?;
    Ok(true)
}

/// Takes a grant away.
///
/// # Errors
/// [`GrantError::NoSuchGrant`]; [`GrantError::LastAdmin`] where nobody could give it back.
pub async fn remove(tx: &mut Tx, grant: &Grant) -> Result<(), GrantError> {
    let key = grant_key(grant);
    if tx.get(&key).await?.is_none() {
        return Err(GrantError::NoSuchGrant(grant.clone()));
    }
    tx.delete(&key);
    touch(tx, -1).await?;
    last_admins(tx).await
}

/// Takes away all that a user was granted, when the user goes.
///
/// # Errors
/// [`GrantError::LastAdmin`], or the store's.
pub async fn remove_all(tx: &mut Tx, user: &str) -> Result<(), GrantError> {
    let subject = Subject::User(user.to_owned()).to_string();
    let of_user = KeyRange::prefix(Space::Grant, &["grant", &subject]);
    let rows = tx.scan_all(of_user, GRANTS_OF_USER_MAX).await?;
    for row in &rows {
        tx.delete(&row.key);
    }
    let suspended = suspended_key(user);
    let was_suspended = tx.get(&suspended).await?.is_some();
    if was_suspended {
        tx.delete(&suspended);
    }
    let gone = i64::try_from(rows.len()).unwrap_or(i64::MAX) + i64::from(was_suspended);
    touch(tx, -gone).await?;
    last_admins(tx).await
}

/// Suspends a user: the grants stay and mean nothing.
///
/// # Errors
/// [`GrantError::LastAdmin`], or the store's.
pub async fn suspend(tx: &mut Tx, user: &str, by: &str) -> Result<(), GrantError> {
    let key = suspended_key(user);
    if tx.get(&key).await?.is_some() {
        return Ok(());
    }
    let made = Made { by: by.to_owned(), at_ms: tx.now_ms() };
    tx.put_value(&key, &made)?;
    touch(tx, 1).await?;
    last_admins(tx).await
}

/// Ends a suspension, if there is one.
///
/// # Errors
/// The store's.
pub async fn unsuspend(tx: &mut Tx, user: &str) -> Result<(), GrantError> {
    let key = suspended_key(user);
    if tx.get(&key).await?.is_some() {
        tx.delete(&key);
        touch(tx, -1).await?;
    }
    Ok(())
}

/// Whether a user is suspended, for lists; [`super::may`] asks for itself.
///
/// # Errors
/// The store's.
pub async fn is_suspended(store: &Store, user: &str) -> Result<bool, StoreError> {
    Ok(store.get(&suspended_key(user)).await?.is_some())
}

/// Checks that somebody is left who may administer the server, after this transaction's own changes.
///
/// # Errors
/// [`GrantError::LastAdmin`] where nobody is.
pub async fn last_admins(tx: &mut Tx) -> Result<(), GrantError> {
    let mut range = KeyRange::prefix(Space::Grant, &["grant"]);
    loop {
        // The version row, which every change writes, is what this transaction expects; not each grant read here.
        let page = tx.peek_scan(range.clone(), PAGE).await?;
        for row in &page.rows {
            let Some(grant) = grant_of(row) else { continue };
            let Subject::User(user) = &grant.subject else { continue };
            let administers = grant.role == Role::Admin && grant.pattern.is_all();
            if administers && tx.peek(&suspended_key(user)).await?.is_none() {
                return Ok(());
            }
        }
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Err(GrantError::LastAdmin),
        }
    }
}

/// What a row's key says; none for keys of an unknown shape.
fn grant_of(row: &Row) -> Option<Grant> {
    let parts = row.key.parts();
    let [_, subject, pattern, role] = parts.as_slice() else { return None };
    Some(Grant { subject: subject.parse().ok()?, role: role.parse().ok()?, pattern: pattern.parse().ok()? })
}

/// A page of grants by subject; `after` is the last one of the page before.
///
/// # Errors
/// The store's.
pub async fn grants(
    store: &Store,
    after: Option<&Grant>,
    limit: usize,
) -> Result<(Vec<GrantRow>, bool), StoreError> {
    let mut range = KeyRange::prefix(Space::Grant, &["grant"]);
    if let Some(after) = after {
        range = range.after(&grant_key(after));
    }
    let page = store.scan(range, limit).await?;
    let mut found = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        let Some(grant) = grant_of(row) else { continue };
        let made: Made = row.value()?;
        found.push(GrantRow { grant, by: made.by, at_ms: made.at_ms });
    }
    Ok((found, page.more))
}

/// What one row of the space adds to a host's view.
pub(super) enum Entry {
    Grant(Grant),
    Suspended(String),
    Other,
}

pub(super) fn entry(row: &Row) -> Entry {
    if let Some(grant) = grant_of(row) {
        return Entry::Grant(grant);
    }
    match row.key.parts().as_slice() {
        [kind, user] if kind == "suspended" => Entry::Suspended(user.clone()),
        _ => Entry::Other,
    }
}
