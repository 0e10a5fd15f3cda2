//! Accounts: the first administrator, users and their passwords.

use std::path::{Path, PathBuf};

use wharf_store::StoreError;

use crate::App;
use crate::access::{self, Grant, GrantError, Principal, Role, Subject};
use crate::auth::{self, NewTokenError, PasswordError, UserError, UserName};
use crate::event::{self, Event, Kind};

/// The first user's name.
pub const ADMIN: &str = "admin";
/// Where the first password stays until it is changed, below the data folder.
const INITIAL_PASSWORD_FILE: &str = "initial-admin-password";

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    Token(#[from] NewTokenError),
    #[error("cannot write `{}`: {cause}", path.display())]
    PasswordFile { path: PathBuf, cause: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the first start leaves for the operator.
#[derive(Debug)]
pub struct FirstAdmin {
    pub password: String,
    pub file: PathBuf,
}

/// Makes the first administrator where there is no user at all.
///
/// The file is written before the commit: a crash between the two leaves a password that opens nothing, and the next
/// start makes another, instead of an account that nobody can open.
///
/// # Errors
/// Where the file cannot be written or the store does not answer.
pub async fn first_start(app: &App) -> Result<Option<FirstAdmin>, AccountError> {
    if !auth::users(&app.store, None, 1).await?.0.is_empty() {
        return Ok(None);
    }
    let (first, hash) = new_admin_password(&app.config.data).await?;
    let name: UserName = ADMIN.parse()?;
    let (name, hash) = (&name, &hash);
    app.store
        .act(|mut tx| async move {
            auth::add_user(&mut tx, name, Some(hash.clone()), Principal::SYSTEM).await?;
            access::add(&mut tx, &administers(name), Principal::SYSTEM).await?;
            let kind = Kind::UserAdded { user: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::system(at_ms, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    Ok(Some(first))
}

/// Gives `admin` a new random password, and its rights back: for whoever holds the machine and lost the password. Its access
/// tokens end: somebody else may hold them.
///
/// # Errors
/// As [`first_start`].
pub async fn reset_admin(app: &App) -> Result<FirstAdmin, AccountError> {
    let (first, hash) = new_admin_password(&app.config.data).await?;
    let name: UserName = ADMIN.parse()?;
    let (name, hash) = (&name, &hash);
    let known = auth::find_user(&app.store, name).await?.is_some();
    app.store
        .act(|mut tx| async move {
            if known {
                auth::set_password(&mut tx, name, hash.clone()).await?;
                auth::revoke_all(&mut tx, name).await?;
            } else {
                auth::add_user(&mut tx, name, Some(hash.clone()), Principal::SYSTEM).await?;
            }
            access::add(&mut tx, &administers(name), Principal::SYSTEM).await?;
            access::unsuspend(&mut tx, name.as_str()).await?;
            let kind = Kind::PasswordChanged { user: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::system(at_ms, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    Ok(first)
}

fn administers(name: &UserName) -> Grant {
    let subject = Subject::User(name.to_string());
    Grant { subject, role: Role::Admin, pattern: wharf_oci::RepoPattern::all() }
}

async fn new_admin_password(data: &Path) -> Result<(FirstAdmin, String), AccountError> {
    let password = auth::random_password();
    let hash = hashed(&password).await?;
    let file = data.join(INITIAL_PASSWORD_FILE);
    auth::write_private(&file, format!("{password}\n").as_bytes())
        .map_err(|cause| AccountError::PasswordFile { path: file.clone(), cause })?;
    Ok((FirstAdmin { password, file }, hash))
}

/// Hashing takes tens of milliseconds: off the serving threads.
async fn hashed(password: &str) -> Result<String, AccountError> {
    let password = password.to_owned();
    let hashed = tokio::task::spawn_blocking(move || auth::hash_password(&password)).await;
    Ok(hashed.map_err(|_| StoreError::Down)??)
}

/// Adds a user; one without a password is a service account, which acts by access tokens alone.
///
/// # Errors
/// Where there is one of this name, or the password is not taken.
pub async fn add_user(
    app: &App,
    by: &Principal,
    name: &UserName,
    password: Option<&str>,
) -> Result<(), AccountError> {
    let hash = match password {
        Some(password) => Some(hashed(password).await?),
        None => None,
    };
    let hash = &hash;
    app.store
        .act(|mut tx| async move {
            auth::add_user(&mut tx, name, hash.clone(), &by.name).await?;
            let kind = Kind::UserAdded { user: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::new(at_ms, &by.name, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    Ok(())
}

/// Sets a password. What was signed on the old one ends; access tokens go on.
///
/// # Errors
/// Where there is no such user, or the password is not taken.
pub async fn set_password(
    app: &App,
    by: &Principal,
    name: &UserName,
    password: &str,
) -> Result<(), AccountError> {
    let hash = &hashed(password).await?;
    app.store
        .act(|mut tx| async move {
            auth::set_password(&mut tx, name, hash.clone()).await?;
            let kind = Kind::PasswordChanged { user: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::new(at_ms, &by.name, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    forget_first_password(app, name);
    Ok(())
}

/// What the file says is no longer true.
fn forget_first_password(app: &App, name: &UserName) {
    if name.as_str() == ADMIN {
        let _ = std::fs::remove_file(app.config.data.join(INITIAL_PASSWORD_FILE));
    }
}

/// Suspends a user, or ends that.
///
/// # Errors
/// Where there is no such user, or nobody would be left to administer the server.
pub async fn set_suspended(
    app: &App,
    by: &Principal,
    name: &UserName,
    suspended: bool,
) -> Result<(), AccountError> {
    app.store
        .act(|mut tx| async move {
            // Expected to stay, so that no suspension outlives its user and meets the next one of that name.
            auth::expect_user(&mut tx, name).await?;
            if suspended {
                access::suspend(&mut tx, name.as_str(), &by.name).await?;
            } else {
                access::unsuspend(&mut tx, name.as_str()).await?;
            }
            let user = name.to_string();
            let kind = if suspended { Kind::UserSuspended { user } } else { Kind::UserResumed { user } };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::new(at_ms, &by.name, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    Ok(())
}

/// Removes a user with all tokens and grants.
///
/// # Errors
/// Where there is no such user, or nobody would be left to administer the server.
pub async fn remove_user(app: &App, by: &Principal, name: &UserName) -> Result<(), AccountError> {
    app.store
        .act(|mut tx| async move {
            auth::remove_user(&mut tx, name).await?;
            auth::revoke_all(&mut tx, name).await?;
            access::remove_all(&mut tx, name.as_str()).await?;
            let kind = Kind::UserRemoved { user: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::new(at_ms, &by.name, kind))?;
            Ok::<_, AccountError>(())
        })
        .await?;
    forget_first_password(app, name);
    Ok(())
}
