//! Access tokens: made, shown once, revoked.

use std::time::Duration;

use wharf_store::StoreError;

use crate::App;
use crate::access::{Principal, Scope};
use crate::auth::{self, AccessToken, NewToken, NewTokenError, TokenName, UserError, UserName};
use crate::event::{self, Event, Kind};

/// How long a token may hold.
pub const EXPIRES_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Token(#[from] NewTokenError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("a token holds for a second to ten years")]
    Expires,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a token of `user`. Its text is in the answer and nowhere else.
///
/// # Errors
/// Where there is no such user, the name is taken, or `expires` is out of bounds.
pub async fn create(
    app: &App,
    by: &Principal,
    user: &UserName,
    name: &TokenName,
    scopes: Option<Vec<Scope>>,
    expires: Duration,
) -> Result<(NewToken, AccessToken), TokenError> {
    if expires < Duration::from_secs(1) || expires > EXPIRES_MAX {
        return Err(TokenError::Expires);
    }
    let expires_ms = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
    let text = NewToken::random()?;
    let (written, scopes) = (&text, &scopes);
    let (token, _) = app
        .store
        .act(|mut tx| async move {
            // Expected to stay, so that no token outlives its user.
            auth::expect_user(&mut tx, user).await?;
            let now_ms = tx.now_ms();
            let token = AccessToken {
                user: user.clone(),
                name: name.clone(),
                scopes: scopes.clone(),
                created_at_ms: now_ms,
                expires_at_ms: now_ms.saturating_add(expires_ms),
            };
            auth::create_token(&mut tx, written, &token).await?;
            let kind = Kind::TokenMade { user: user.to_string(), token: name.to_string() };
            event::append(&mut tx, &Event::new(now_ms, &by.name, kind))?;
            Ok::<_, TokenError>(token)
        })
        .await?;
    Ok((text, token))
}

/// Revokes a token; what was signed on it ends with this.
///
/// # Errors
/// Where there is no such token.
pub async fn revoke(app: &App, by: &Principal, user: &UserName, name: &TokenName) -> Result<(), TokenError> {
    app.store
        .act(|mut tx| async move {
            auth::revoke_token(&mut tx, user, name).await?;
            let kind = Kind::TokenRevoked { user: user.to_string(), token: name.to_string() };
            let at_ms = tx.now_ms();
            event::append(&mut tx, &Event::new(at_ms, &by.name, kind))?;
            Ok::<_, TokenError>(())
        })
        .await?;
    Ok(())
}
