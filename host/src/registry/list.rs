//! Pages: tags of a repository, repositories of the server.
//!
//! Invariant: a page costs what it holds, wherever in the list it is.

use wharf_oci::{RepoName, Tag};
use wharf_store::{KeyRange, MAX_PAGE, Space, Store, StoreError, key};

use super::row;

/// Entries of a page when the client names no number, and the most it gets.
pub const PAGE_MAX: usize = 1000;
const _: () = assert!(PAGE_MAX <= MAX_PAGE);

/// One page of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names<T> {
    pub names: Vec<T>,
    /// Whether more follow the last one.
    pub more: bool,
}

/// Tags of a repository in byte order, after `last`, at most `n` and at most [`PAGE_MAX`]. `None`: there is no such
/// repository.
///
/// # Errors
/// Where the store cannot be read.
pub async fn tags(
    store: &Store,
    repository: &RepoName,
    last: Option<&str>,
    n: usize,
) -> Result<Option<Names<Tag>>, StoreError> {
    let all = row::tags(repository);
    let range = match last {
        Some(last) => all.after(&key(Space::Tag, &[repository.as_str(), last])),
        None => all,
    };
    let n = n.min(PAGE_MAX);
    let page = store.scan(range, n).await?;
    if page.rows.is_empty() && store.get(&row::repo(repository)).await?.is_none() {
        return Ok(None);
    }
    let names = page.rows.iter().filter_map(|row| row.key.part(1)?.parse().ok()).collect();
    Ok(Some(Names { names, more: page.more && n > 0 }))
}

/// Repositories in byte order, after `last`, at most `n` and at most [`PAGE_MAX`].
///
/// # Errors
/// Where the store cannot be read.
pub async fn repositories(
    store: &Store,
    last: Option<&str>,
    n: usize,
) -> Result<Names<RepoName>, StoreError> {
    let range = match last {
        Some(last) => KeyRange::all(Space::Repo).after(&key(Space::Repo, &[last])),
        None => KeyRange::all(Space::Repo),
    };
    let n = n.min(PAGE_MAX);
    let page = store.scan(range, n).await?;
    let names = page.rows.iter().filter_map(|row| row.key.part(0)?.parse().ok()).collect();
    Ok(Names { names, more: page.more && n > 0 })
}
