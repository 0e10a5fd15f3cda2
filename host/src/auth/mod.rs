//! Who are you: accounts, passwords, access tokens for machines, and the short-lived tokens that clients work with.
//!
//! An operator sees `wharf user add`, `wharf token create`, and what `docker login` does. Clients prove themselves in
//! one of three ways: a user's password, an access token (`wharf_pat_…`) in the password's place or as a bearer, or a
//! bearer token that `/token` signed for one of the first two.
//!
//! Entry: [`identify`].
//!
//! Invariant: no password and no token is stored, logged or kept in memory; rows hold argon2id and SHA-256 hashes.
//! Invariant: a wrong password and an unknown user take the same work and give the same answer.
//! Invariant: what a bearer token was signed for is checked again at each use: a changed password, a revoked access
//! token or a suspended user ends it at once.

mod access_token;
mod bearer;
mod file;
mod password;
mod seal;
mod throttle;
mod user;

use std::net::IpAddr;

use wharf_store::{Recent, Rev, StoreError};

use crate::App;
use crate::access::{self, Principal, Scope};

pub use access_token::{
    AccessToken, NewToken, NewTokenError, TokenName, create_token, find_token, is_access_token, revoke_all,
    revoke_token, token_expires_ms, tokens,
};
pub use bearer::{ACCESS_TTL_S, Bearer, BearerError, Kind, REFRESH_TTL_S, Signer};
pub use password::{PasswordError, Passwords, hash_password, random_password};
pub use seal::{SEALED, Seal};
pub use throttle::Throttle;
pub use user::{
    User, UserError, UserName, add_user, expect_user, find_user, remove_user, set_password, users,
};

pub use file::write_private;

/// What a host keeps for answering who somebody is.
#[derive(Debug)]
pub struct Auth {
    pub signer: Signer,
    pub seal: Seal,
    pub passwords: Passwords,
    pub throttle: Throttle,
    /// Which commit last set a user's password, for the tokens that stand on it.
    passwords_set: Recent<UserName, Rev>,
}

/// Bytes of names and revisions that are held at the same time, and what one costs at most.
const PASSWORDS_SET_BYTES_MAX: usize = 1 << 20;
const PASSWORD_SET_BYTES: usize = 256;

impl Auth {
    /// Reads the signing key from `folder`, or makes one.
    ///
    /// # Errors
    /// Where the key file can be neither read nor written.
    pub fn open(folder: &std::path::Path) -> Result<Self, AuthError> {
        let key = file::key_file(&folder.join("token.key")).map_err(AuthError::KeyFile)?;
        let seal =
            Seal::new(&key).map_err(|_| AuthError::KeyFile(std::io::Error::other("it does not derive")))?;
        let (passwords, throttle) = (Passwords::new(), Throttle::default());
        let passwords_set = Recent::new(PASSWORDS_SET_BYTES_MAX);
        Ok(Auth { signer: Signer::new(&key), seal, passwords, throttle, passwords_set })
    }
}

/// What a request brought along to prove who it is.
#[derive(Clone)]
pub enum Credentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::None => f.write_str("None"),
            Credentials::Basic { user, .. } => write!(f, "Basic({user:?}, …)"),
            Credentials::Bearer(_) => f.write_str("Bearer(…)"),
        }
    }
}

/// Who it is, and by what.
#[derive(Debug, Clone)]
pub struct Identity {
    pub principal: Principal,
    pub proof: Proof,
}

/// What proved it; what is signed on its strength ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    None,
    /// A password, set by this commit.
    Password(Rev),
    /// An access token, by its id.
    AccessToken(String),
    /// A token that `/token` signed.
    Bearer,
}

/// Why somebody is not who they say.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Wrong password, unknown user: one answer for all, and for the next.
    #[error("the user name or password is wrong")]
    Wrong,
    /// The right credentials of a user who may do nothing.
    #[error("the user name or password is wrong")]
    Suspended,
    #[error("the token is not valid here: {0}")]
    Bearer(BearerError),
    #[error("the token is revoked, expired or unknown")]
    Token,
    #[error("too many failed logins; hint: try again in {retry_s} s")]
    Throttled { retry_s: u64 },
    #[error("too many logins are being checked; hint: try again")]
    Busy,
    #[error("the stored password hash is damaged: {0}")]
    Hash(String),
    #[error("cannot read or make the token signing key: {0}")]
    KeyFile(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says who somebody is.
///
/// No credentials are an answer too: anonymous. Wrong ones never are.
///
/// # Errors
/// [`AuthError::Wrong`], [`AuthError::Suspended`], [`AuthError::Bearer`] and [`AuthError::Token`] for credentials that prove
/// nothing, the others where it cannot be said now.
pub async fn identify(app: &App, credentials: &Credentials, peer: IpAddr) -> Result<Identity, AuthError> {
    let identity = match credentials {
        Credentials::None => {
            return Ok(Identity { principal: Principal::anonymous(), proof: Proof::None });
        }
        Credentials::Basic { password, .. } if is_access_token(password) => {
            by_access_token(app, password).await?
        }
        Credentials::Basic { user, password } => by_password(app, user, password, peer).await?,
        Credentials::Bearer(token) if is_access_token(token) => by_access_token(app, token).await?,
        Credentials::Bearer(token) => stands(app, &verify(app, token, Kind::Access)?).await?,
    };
    if access::view(app, &identity.principal).await?.is_suspended() {
        return Err(AuthError::Suspended);
    }
    Ok(identity)
}

/// Says whose refresh token this is: the same rules as for a bearer, with the other kind.
///
/// # Errors
/// As [`identify`].
pub async fn by_refresh_token(app: &App, token: &str) -> Result<(Identity, Bearer), AuthError> {
    let bearer = verify(app, token, Kind::Refresh)?;
    let identity = stands(app, &bearer).await?;
    if access::view(app, &identity.principal).await?.is_suspended() {
        return Err(AuthError::Suspended);
    }
    Ok((identity, bearer))
}

async fn by_password(app: &App, name: &str, password: &str, peer: IpAddr) -> Result<Identity, AuthError> {
    let row = match name.parse::<UserName>() {
        Ok(name) => find_user(&app.store, &name).await?,
        Err(_) => None,
    };
    let hash = row.as_ref().and_then(|(user, _)| user.password_hash.as_deref());
    let rev = row.as_ref().map(|(_, rev)| *rev).unwrap_or_default();
    let identity = Identity { principal: Principal::user(name), proof: Proof::Password(rev) };
    let Auth { passwords, throttle, .. } = &app.auth;
    let is_known = || hash.is_some_and(|hash| passwords.is_known(name, password, hash));
    let is_open = || throttle.check(name, peer).map_err(|retry_s| AuthError::Throttled { retry_s });
    if is_known() {
        return Ok(identity);
    }
    is_open()?;
    let turn = passwords.turn().await?;
    // What the tries before this one came to counts: many at once get no more answers than one after the other, and of
    // many that are right one is hashed.
    if is_known() {
        return Ok(identity);
    }
    is_open()?;
    let (right, _turn) = passwords.check(turn, name, password, hash).await?;
    if !right {
        throttle.failed(name, peer);
        return Err(AuthError::Wrong);
    }
    throttle.succeeded(name, peer);
    Ok(identity)
}

async fn by_access_token(app: &App, token: &str) -> Result<Identity, AuthError> {
    let (id, token) = find_token(&app.store, token).await?.ok_or(AuthError::Token)?;
    if token.expires_at_ms <= app.store.now_ms() {
        return Err(AuthError::Token);
    }
    let principal = Principal { name: token.user.to_string(), scopes: token.scopes };
    Ok(Identity { principal, proof: Proof::AccessToken(id) })
}

fn verify(app: &App, token: &str, kind: Kind) -> Result<Bearer, AuthError> {
    app.auth.signer.verify(token, kind, app.now_ms() / 1000).map_err(AuthError::Bearer)
}

/// Whether what a signed token stands on still holds.
async fn stands(app: &App, bearer: &Bearer) -> Result<Identity, AuthError> {
    let scopes: Option<Vec<Scope>> = bearer.scopes.clone();
    if bearer.subject == Principal::ANONYMOUS {
        let principal = Principal { name: Principal::ANONYMOUS.to_owned(), scopes };
        return Ok(Identity { principal, proof: Proof::Bearer });
    }
    let holds = match (&bearer.password_rev, &bearer.token_id) {
        (Some(rev), None) => {
            let name: UserName = bearer.subject.parse().map_err(|_| AuthError::Token)?;
            password_set(app, name).await?.is_some_and(|now| now.0 == *rev)
        }
        (None, Some(id)) => {
            let row = access_token::by_id(&app.store, id).await?;
            row.is_some_and(|token| token.expires_at_ms > app.store.now_ms())
        }
        _ => false,
    };
    if !holds {
        return Err(AuthError::Token);
    }
    let principal = Principal { name: bearer.subject.clone(), scopes };
    Ok(Identity { principal, proof: Proof::Bearer })
}

/// The commit that last set a user's password.
async fn password_set(app: &App, name: UserName) -> Result<Option<Rev>, StoreError> {
    let read = async {
        let user = find_user(&app.store, &name).await?;
        Ok(user.map(|(_, rev)| (rev, PASSWORD_SET_BYTES)))
    };
    app.auth.passwords_set.read(&app.store, name.clone(), read).await
}

#[cfg(test)]
mod tests;
