//! Unfinished uploads, counted: each holds a file until it is finished, given up or a day old.
//!
//! Invariant: at most [`NAMESPACE_MAX`] in one namespace and [`USER_MAX`] of one user in it, whichever process opened them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wharf_oci::RepoName;
use wharf_store::{BlobError, BlobId, Blobs};

use super::upload::{self, UploadError};

/// Unfinished uploads in one namespace.
pub const NAMESPACE_MAX: usize = 4096;
/// Of those, by one user: a broken client takes no more than a quarter from the others.
pub const USER_MAX: usize = 1024;

/// The uploads that wait for more, by namespace.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, HashMap<BlobId, Session>>>);

#[derive(Debug)]
struct Session {
    by: String,
    ends: Instant,
}

impl Sessions {
    /// Those that the process before this one left, each until `grace` after it was last written to. Blocks; it is called
    /// before anything is served.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn of(blobs: &Blobs, now_ms: u64, grace: Duration) -> Result<Sessions, BlobError> {
        let (sessions, now) = (Sessions::default(), Instant::now());
        for (id, owner, modified_ms) in blobs.waiting()? {
            let (repository, by) = upload::owned(&owner);
            let Ok(repository) = repository.parse::<RepoName>() else { continue };
            let age = Duration::from_millis(now_ms.saturating_sub(modified_ms));
            let session = Session { by: by.to_owned(), ends: now + grace.saturating_sub(age) };
            sessions.lock().entry(repository.namespace().to_owned()).or_default().insert(id, session);
        }
        Ok(sessions)
    }

    /// Counts an upload that was opened; it is forgotten after `grace`, when its file is collected.
    ///
    /// # Errors
    /// [`UploadError::TooMany`].
    pub fn open(
        &self,
        id: &BlobId,
        repository: &RepoName,
        by: &str,
        grace: Duration,
    ) -> Result<(), UploadError> {
        let now = Instant::now();
        let mut namespaces = self.lock();
        let open = namespaces.entry(repository.namespace().to_owned()).or_default();
        let of = |open: &HashMap<_, Session>| open.values().filter(|session| session.by == by).count();
        if open.len() >= NAMESPACE_MAX || of(open) >= USER_MAX {
            open.retain(|_, session| session.ends > now);
        }
        let (all, own) = (open.len(), of(open));
        if all >= NAMESPACE_MAX || own >= USER_MAX {
            let namespace = repository.namespace().to_owned();
            let (by, open) = if own >= USER_MAX { (Some(by.to_owned()), own) } else { (None, all) };
            return Err(UploadError::TooMany { namespace, by, open });
        }
        open.insert(id.clone(), Session { by: by.to_owned(), ends: now + grace });
        Ok(())
    }

    /// Forgets one that was finished or given up.
    pub fn end(&self, id: &BlobId, repository: &RepoName) {
        let mut namespaces = self.lock();
        if let Some(open) = namespaces.get_mut(repository.namespace()) {
            open.remove(id);
            if open.is_empty() {
                namespaces.remove(repository.namespace());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<BlobId, Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn id(n: usize) -> BlobId {
        BlobId::parse(&format!("{n:032x}")).unwrap()
    }

    #[test]
    fn one_user_leaves_room_for_the_others() {
        let (sessions, app) = (Sessions::default(), "dev/app".parse::<RepoName>().unwrap());
        for n in 0..USER_MAX {
            sessions.open(&id(n), &app, "alice", DAY).unwrap();
        }
        let refused = sessions.open(&id(USER_MAX), &app, "alice", DAY);
        assert!(matches!(refused, Err(UploadError::TooMany { by: Some(by), .. }) if by == "alice"));
        sessions.open(&id(USER_MAX), &app, "bob", DAY).unwrap();
        sessions.open(&id(USER_MAX), &"qa/app".parse().unwrap(), "alice", DAY).unwrap();
        sessions.end(&id(7), &app);
        sessions.open(&id(7), &app, "alice", DAY).unwrap();
    }

    #[test]
    fn a_namespace_is_full_until_its_uploads_are_too_old() {
        let (sessions, app) = (Sessions::default(), "dev/app".parse::<RepoName>().unwrap());
        for n in 0..NAMESPACE_MAX {
            let ends = if n == 0 { Duration::ZERO } else { DAY };
            sessions.open(&id(n), &app, &format!("user{}", n / 512), ends).unwrap();
        }
        sessions.open(&id(NAMESPACE_MAX), &app, "carol", DAY).unwrap();
        let refused = sessions.open(&id(NAMESPACE_MAX + 1), &app, "carol", DAY);
        assert!(matches!(refused, Err(UploadError::TooMany { by: None, open: NAMESPACE_MAX, .. })));
    }
}
