//! May you: subjects, roles and the repositories that a grant covers.
//!
//! An operator sees `wharf grant add user:alice write 'dev/*'`. A grant is subject × role × resource; what somebody may
//! do is the union of the grants to them, to `authenticated` and (for those who do not log in) to `anonymous`. A token
//! narrows its owner's rights and never adds to them.
//!
//! Entry: [`may`]; [`judge`] where the difference between "not you" and "not with this token" matters.
//!
//! Invariant: nothing is allowed that no grant names; anonymous has no grant by default.
//! Invariant: a change of grants that was acknowledged is in force for the next request on this host.
//! Invariant: a suspended user may do nothing, whatever the grants say.

mod grant;
mod scope;
mod view;

use serde::{Deserialize, Serialize};
use wharf_oci::RepoName;
use wharf_store::StoreError;

use crate::App;

pub use grant::{
    ANONYMOUS, AUTHENTICATED, Grant, GrantError, GrantRow, Role, Subject, add, grants, is_suspended,
    last_admins, remove, remove_all, suspend, unsuspend,
};
pub use scope::{Scope, ScopeError};
pub use view::{Grants, View};

/// Who acts: a person, a machine's token, the server itself or nobody that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// `anonymous`, `system`, or a user's name.
    pub name: String,
    /// What a token narrows its user's grants to; `None` is everything the user may do.
    pub scopes: Option<Vec<Scope>>,
}

impl Principal {
    pub const ANONYMOUS: &str = ANONYMOUS;
    pub const SYSTEM: &str = "system";

    pub fn user(name: impl Into<String>) -> Self {
        Principal { name: name.into(), scopes: None }
    }

    pub fn anonymous() -> Self {
        Principal::user(Self::ANONYMOUS)
    }

    /// The server's own housekeeping: collection, retention, re-checks. Never a binding.
    pub fn system() -> Self {
        Principal::user(Self::SYSTEM)
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == Self::ANONYMOUS
    }
}

/// What can be done to a repository.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// See that it exists.
    List,
    /// Read manifests, blobs, tags, scans, decisions.
    Pull,
    /// Write manifests, blobs and tags.
    Push,
    /// Delete manifests, blobs and tags.
    Delete,
    /// Promote by hand, bind policies, change the repository's settings.
    Maintain,
    /// Users, grants, plugins, the vulnerability database, jobs.
    Administer,
}

impl Action {
    pub const ALL: [Action; 6] =
        [Action::List, Action::Pull, Action::Push, Action::Delete, Action::Maintain, Action::Administer];

    /// As scopes and the token protocol write it.
    pub fn name(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::Maintain => "maintain",
            Action::Administer => "administer",
        }
    }
}

/// What the grants and the token's scopes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Allowed,
    /// The user may, but not with this token: a token with more scope would do.
    OutOfScope,
    Refused,
}

/// Whether `who` may do `action` to `repository`.
///
/// # Errors
/// Only where the store cannot be read; a refusal is `Ok(false)`.
pub async fn may(
    app: &App,
    who: &Principal,
    action: Action,
    repository: &RepoName,
) -> Result<bool, StoreError> {
    Ok(judge(app, who, action, repository).await? == Answer::Allowed)
}

/// The same, and why not.
///
/// # Errors
/// Only where the store cannot be read.
pub async fn judge(
    app: &App,
    who: &Principal,
    action: Action,
    repository: &RepoName,
) -> Result<Answer, StoreError> {
    Ok(view(app, who).await?.judge(action, repository))
}

/// What `who` may do now, for many questions at once, such as which repositories of a page to show.
///
/// # Errors
/// Where the store cannot be read.
pub async fn view<'a>(app: &App, who: &'a Principal) -> Result<View<'a>, StoreError> {
    Ok(View::new(app.grants.current(&app.store).await?, who))
}

/// Expects that no grant is given or taken before the commit.
///
/// # Errors
/// Where the store cannot be read.
pub async fn expect_grants(tx: &mut wharf_store::Tx) -> Result<(), StoreError> {
    tx.get(&grant::version_key()).await.map(drop)
}

#[cfg(test)]
mod tests;
