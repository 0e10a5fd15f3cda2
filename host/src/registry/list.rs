//! Pages: tags of a repository, repositories of the server.
//!
//! Invariant: a page costs what it holds, wherever in the list it is.

use wharf_oci::{RepoName, Tag};
use wharf_store::{KeyRange, MAX_PAGE, Space, Store, StoreError, key};

use super::row;
use super::untag::Marks;

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
/// repository. What a large delete has hidden and not yet removed is passed over.
///
/// # Errors
/// Where the store cannot be read.
pub async fn tags(
    store: &Store,
    repository: &RepoName,
    last: Option<&str>,
    n: usize,
) -> Result<Option<Names<Tag>>, StoreError> {
    let mut range = row::tags(repository);
    if let Some(last) = last {
        range = range.after(&key(Space::Tag, &[repository.as_str(), last]));
    }
    let n = n.min(PAGE_MAX);
    // Before the tags: a mark that is made meanwhile hides nothing that was there to be seen when this began.
    let marks = Marks::of(store, repository).await?;
    // A short page may lie behind many hidden tags.
    let at_once = if marks.is_empty() { n } else { PAGE_MAX };
    let (mut names, mut seen) = (Vec::new(), false);
    let more = 'pages: loop {
        let page = store.scan(range.clone(), at_once).await?;
        seen |= !page.rows.is_empty();
        for row in &page.rows {
            if names.len() == n {
                break 'pages true;
            }
            if marks.hiding(row)?.is_none() {
                names.extend(row.key.part(1).and_then(|tag| tag.parse().ok()));
            }
        }
        match page.rows.last() {
            Some(last) if page.more && names.len() < n => range = range.after(&last.key),
            _ => break page.more && n > 0,
        }
    };
    if !seen && store.get(&row::repo(repository)).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(Names { names, more }))
}

/// Repositories whose names begin with `beginning`, in byte order, after `last`, at most `n` and at most [`PAGE_MAX`]; no
/// others are read. There is none only where no more follow.
///
/// # Errors
/// Where the store cannot be read.
pub async fn repositories_from(
    store: &Store,
    beginning: &str,
    last: Option<&str>,
    n: usize,
) -> Result<Names<RepoName>, StoreError> {
    // Names are of characters below this one.
    let end = format!("{beginning}\u{7f}");
    let mut range = KeyRange::all(Space::Repo).starting_at(&key(Space::Repo, &[beginning]));
    range = range.before(&key(Space::Repo, &[end]));
    if let Some(last) = last {
        range = range.after(&key(Space::Repo, &[last]));
    }
    let n = n.min(PAGE_MAX);
    loop {
        let page = store.scan(range.clone(), n).await?;
        let names: Vec<RepoName> = page.rows.iter().filter_map(|row| row.key.part(0)?.parse().ok()).collect();
        match page.rows.last() {
            // Whoever asks goes on behind the last name: a page without one has to be the end.
            Some(last) if page.more && names.is_empty() => range = range.after(&last.key),
            _ => return Ok(Names { names, more: page.more && n > 0 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharf_store::Model;

    use super::*;

    /// Regression: whoever went over all repositories stopped at the first page that held nothing but damaged names.
    #[tokio::test]
    async fn a_page_without_a_name_is_the_last() {
        let store = Store::new(Arc::new(Model::default()));
        let put = async |mut tx: wharf_store::Tx| {
            for name in ["A1", "A2", "A3", "A4", "A5", "app", "b1", "z/Z1", "z/Z2", "z/Z3"] {
                tx.put(&key(Space::Repo, &[format!("dev/{name}")]), "{}");
            }
            Ok::<_, StoreError>(())
        };
        store.act(put).await.unwrap();
        let (mut found, mut last) = (Vec::new(), None::<String>);
        loop {
            let page = repositories_from(&store, "dev/", last.as_deref(), 2).await.unwrap();
            assert!(!page.names.is_empty() || !page.more);
            found.extend(page.names.iter().map(RepoName::to_string));
            last = found.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(found, ["dev/app", "dev/b1"]);
    }
}
