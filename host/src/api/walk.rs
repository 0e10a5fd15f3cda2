//! The repositories that a caller may see, in the order of their names: what each list of them stands on.
//!
//! Names are read where the caller's grants begin and nowhere else, so `team/*` costs what `team/` holds. What is read and
//! not shown is bounded, and a list that ends there says where to go on without saying what is there.
//!
//! Invariant: no text for a client holds the name of a repository that the caller may not see.

use wharf_oci::{RepoName, RepoPattern};
use wharf_store::StoreError;

use crate::App;
use crate::access::{Action, View};
use crate::registry::list;

/// Repositories looked at in one request, seen or not.
const LOOKED_AT_MAX: usize = 10_000;
/// Names read at once, so that a small page among many unseen ones takes few reads.
const NAMES: usize = 100;

/// A walk over them.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    app: &'a App,
    view: &'a View<'a>,
    action: Action,
    pattern: Option<&'a RepoPattern>,
    /// Where names are still to be read, the nearest first.
    beginnings: std::vec::IntoIter<String>,
    /// Where they are being read; none before the first and after the last.
    beginning: Option<String>,
    read: std::vec::IntoIter<RepoName>,
    /// The name behind which it goes on.
    last: Option<String>,
    looked_at: usize,
}

impl<'a> Walk<'a> {
    /// The repositories to which the caller may do `action`, of those of a pattern, behind a place: a name, or what
    /// [`Walk::rest`] gave. None where the text is neither.
    pub(super) fn new(
        app: &'a App,
        view: &'a View<'a>,
        action: Action,
        pattern: Option<&'a RepoPattern>,
        after: Option<&str>,
    ) -> Option<Walk<'a>> {
        let last = match after {
            Some(after) => Some(app.auth.seal.open_place(after)?),
            None => None,
        };
        let mut beginnings = view.beginnings(action, pattern.map_or("", RepoPattern::literal));
        if let Some(last) = &last {
            beginnings.retain(|beginning| beginning > last || last.starts_with(beginning));
        }
        let (beginnings, read) = (beginnings.into_iter(), Vec::new().into_iter());
        Some(Walk { app, view, action, pattern, beginnings, beginning: None, read, last, looked_at: 0 })
    }

    /// Whether the repository is one of them.
    pub(super) fn shows(&self, name: &RepoName) -> bool {
        self.pattern.is_none_or(|pattern| pattern.matches(name)) && self.view.may(self.action, name)
    }

    /// The next one; none at the end, and where one request has looked at enough.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<RepoName>, StoreError> {
        while self.looked_at < LOOKED_AT_MAX {
            let Some(name) = self.read().await? else { break };
            self.looked_at += 1;
            self.last = Some(name.to_string());
            if self.shows(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The next `n`, and where to go on: behind the last of them where there is another, else [`Walk::rest`].
    ///
    /// # Errors
    /// As [`Walk::next`] and [`Walk::rest`].
    pub(super) async fn page(&mut self, n: usize) -> Result<(Vec<RepoName>, Option<String>), StoreError> {
        let mut names = Vec::new();
        while names.len() <= n
            && let Some(name) = self.next().await?
        {
            names.push(name);
        }
        if names.len() <= n {
            return Ok((names, self.rest()?));
        }
        names.truncate(n);
        let next = names.last().map(RepoName::to_string);
        Ok((names, next))
    }

    /// The next name, whoever may see it.
    async fn read(&mut self) -> Result<Option<RepoName>, StoreError> {
        loop {
            if let Some(name) = self.read.next() {
                return Ok(Some(name));
            }
            if self.beginning.is_none() {
                self.beginning = self.beginnings.next();
            }
            let Some(beginning) = &self.beginning else { return Ok(None) };
            let page =
                list::repositories_from(&self.app.store, beginning, self.last.as_deref(), NAMES).await?;
            if !page.more {
                self.beginning = None;
            }
            self.read = page.names.into_iter();
        }
    }

    /// Where the next request goes on, after [`Walk::next`] gave none: sealed, as what was looked at last may be nothing
    /// that the caller may see. None at the end.
    ///
    /// # Errors
    /// Where it cannot be sealed.
    pub(super) fn rest(&self) -> Result<Option<String>, StoreError> {
        let Some(last) = self.last.as_ref().filter(|_| self.looked_at == LOOKED_AT_MAX) else {
            return Ok(None);
        };
        self.app.auth.seal.seal_place(last).map(Some)
    }
}

#[cfg(test)]
mod tests;
