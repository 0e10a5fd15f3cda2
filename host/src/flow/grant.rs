//! Grants: given and taken away.

use wharf_store::{StoreError, Tx};

use crate::App;
use crate::access::{self, Grant, GrantError, Principal, Subject};
use crate::auth::{self, UserError, UserName};
use crate::event::{self, Event, Kind};

/// Why grants were not changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantingError {
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Grants; a grant that is there already stays as it is.
///
/// # Errors
/// Where the subject is a user that there is not.
pub async fn add(app: &App, by: &Principal, grant: &Grant) -> Result<(), GrantingError> {
    app.store
        .act(|mut tx| async move {
            if let Subject::User(user) = &grant.subject {
                let user: UserName = user.parse()?;
                auth::expect_user(&mut tx, &user).await?;
            }
            if access::add(&mut tx, grant, &by.name).await? {
                let (subject, role, resource) = named(grant);
                tell(&mut tx, by, Kind::GrantAdded { subject, role, resource })?;
            }
            Ok::<_, GrantingError>(())
        })
        .await?;
    Ok(())
}

/// Takes a grant away.
///
/// # Errors
/// Where there is none, or nobody would be left to administer the server.
pub async fn remove(app: &App, by: &Principal, grant: &Grant) -> Result<(), GrantingError> {
    app.store
        .act(|mut tx| async move {
            access::remove(&mut tx, grant).await?;
            let (subject, role, resource) = named(grant);
            tell(&mut tx, by, Kind::GrantRemoved { subject, role, resource })?;
            Ok::<_, GrantingError>(())
        })
        .await?;
    Ok(())
}

/// A grant as events name it: subject, role, resource.
fn named(Grant { subject, role, pattern }: &Grant) -> (String, String, String) {
    (subject.to_string(), role.to_string(), pattern.to_string())
}

fn tell(tx: &mut Tx, by: &Principal, kind: Kind) -> Result<(), StoreError> {
    let at_ms = tx.now_ms();
    event::append(tx, &Event::new(at_ms, &by.name, kind))
}
