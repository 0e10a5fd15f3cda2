//! An operator changes what a repository or a namespace allows.

use wharf_oci::RepoName;
use wharf_store::StoreError;

use crate::App;
use crate::access::Principal;
use crate::event::{self, Event, Kind};
use crate::registry::setting::{self, RepoSetting, SettingError};
use crate::registry::{quota, row};

/// Why a setting stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Replaces a repository's settings, in force for the next push. The repository need not exist yet; returns whether it does.
///
/// # Errors
/// [`RepositoryError::Setting`] where a pattern could match no tag, or the store's.
pub async fn set(
    app: &App,
    by: &Principal,
    repository: &RepoName,
    setting: &RepoSetting,
) -> Result<bool, RepositoryError> {
    setting.check()?;
    let kind = &Kind::RepositoryChanged {
        repository: repository.clone(),
        immutable_tags: setting.immutable_tags.clone(),
    };
    let event = &Event::new(app.now_ms(), &by.name, kind.clone());
    let set = app.store.act(|mut tx| async move {
        setting::put(&mut tx, repository, setting)?;
        event::append(&mut tx, event)?;
        Ok::<_, StoreError>(tx.peek(&row::repo(repository)).await?.is_some())
    });
    Ok(set.await?.0)
}

/// Limits the bytes of a namespace; `None` lifts the limit. One below what is used stops pushes only.
///
/// # Errors
/// Where the store fails.
pub async fn limit(
    app: &App,
    by: &Principal,
    namespace: &str,
    max_bytes: Option<u64>,
) -> Result<(), StoreError> {
    let kind = Kind::QuotaChanged { namespace: namespace.to_owned(), max_bytes };
    let event = &Event::new(app.now_ms(), &by.name, kind);
    app.store
        .act(|mut tx| async move {
            quota::limit(&mut tx, namespace, max_bytes);
            event::append(&mut tx, event)
        })
        .await?;
    Ok(())
}
