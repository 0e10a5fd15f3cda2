//! The grants as one host holds them: all in memory, current to the last commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use wharf_oci::{RepoName, RepoPattern};
use wharf_store::{KeyRange, Rev, Space, Store, StoreError};

use super::grant::{self, Entry, PAGE, Role, Subject};
use super::{Action, Answer, Principal};

/// How often a load that met a change starts again before it gives up.
const LOAD_TRIES: u32 = 16;

/// All grants, by subject.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Revision of the version row that this was read under.
    version: Rev,
    users: HashMap<String, Vec<(RepoPattern, Role)>>,
    authenticated: Vec<(RepoPattern, Role)>,
    anonymous: Vec<(RepoPattern, Role)>,
    suspended: HashSet<String>,
}

/// The grants in memory. One for each host.
#[derive(Debug, Default)]
pub struct Grants {
    snapshot: ArcSwap<Snapshot>,
    /// The snapshot is known to hold for the store's head up to this commit.
    checked: AtomicU64,
    loading: Mutex<()>,
}

impl Grants {
    /// The grants as of the newest commit.
    ///
    /// While nothing is committed this costs one atomic load; after a commit, one row; after a change of grants, all
    /// of them once.
    pub(super) async fn current(&self, store: &Store) -> Result<Arc<Snapshot>, StoreError> {
        let head = *store.head().borrow();
        // A store that nothing was written to has no grants: the default is right.
        if self.checked.load(Ordering::Acquire) >= head {
            return Ok(self.snapshot.load_full());
        }
        let version = version(store).await?;
        let held = self.snapshot.load_full();
        if held.version == version {
            self.checked.fetch_max(head, Ordering::AcqRel);
            return Ok(held);
        }
        let _only_one = self.loading.lock().await;
        for _ in 0..LOAD_TRIES {
            let head = *store.head().borrow();
            let before = self::version(store).await?;
            let held = self.snapshot.load_full();
            if held.version == before {
                return Ok(held);
            }
            let loaded = Arc::new(load(store, before).await?);
            if self::version(store).await? == before {
                self.snapshot.store(loaded.clone());
                self.checked.fetch_max(head, Ordering::AcqRel);
                return Ok(loaded);
            }
        }
        Err(StoreError::Conflict(grant::version_key()))
    }
}

async fn version(store: &Store) -> Result<Rev, StoreError> {
    Ok(store.get(&grant::version_key()).await?.map(|row| row.rev).unwrap_or_default())
}

async fn load(store: &Store, version: Rev) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot { version, ..Snapshot::default() };
    let mut range = KeyRange::all(Space::Grant);
    loop {
        let page = store.scan(range.clone(), PAGE).await?;
        for row in &page.rows {
            match grant::entry(row) {
                Entry::Grant(grant) => {
                    let held = match grant.subject {
                        Subject::User(name) => snapshot.users.entry(name).or_default(),
                        Subject::Authenticated => &mut snapshot.authenticated,
                        Subject::Anonymous => &mut snapshot.anonymous,
                    };
                    held.push((grant.pattern, grant.role));
                }
                Entry::Suspended(name) => {
                    snapshot.suspended.insert(name);
                }
                Entry::Other => {}
            }
        }
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok(snapshot),
        }
    }
}

/// What one principal may do, by the grants of one moment.
#[derive(Debug)]
pub struct View<'a> {
    grants: Arc<Snapshot>,
    who: &'a Principal,
}

impl<'a> View<'a> {
    pub(super) fn new(grants: Arc<Snapshot>, who: &'a Principal) -> Self {
        View { grants, who }
    }

    /// Whether the principal's user is suspended.
    pub fn is_suspended(&self) -> bool {
        self.grants.suspended.contains(&self.who.name)
    }

    pub fn may(&self, action: Action, repository: &RepoName) -> bool {
        self.judge(action, repository) == Answer::Allowed
    }

    /// Whether the principal may do `action` to `repository`, and why not.
    pub fn judge(&self, action: Action, repository: &RepoName) -> Answer {
        self.answer(action, |pattern| pattern.matches(repository))
    }

    /// Whether the principal may do `action` to every repository of a pattern, by one grant that covers it.
    pub fn judge_pattern(&self, action: Action, repositories: &RepoPattern) -> Answer {
        self.answer(action, |pattern| pattern.covers(repositories))
    }

    /// Whether the principal may do `action` to some repository of the patterns that are `meant`.
    pub fn may_in(&self, action: Action, meant: impl Fn(&RepoPattern) -> bool) -> bool {
        self.answer(action, meant) == Answer::Allowed
    }

    /// Whether the principal may administer the server: the role `admin` over `**`, and a token that is not narrowed
    /// below that.
    pub fn judge_server(&self) -> Answer {
        self.answer(Action::Administer, RepoPattern::is_all)
    }

    fn answer(&self, action: Action, covers: impl Fn(&RepoPattern) -> bool) -> Answer {
        if self.who.name != Principal::SYSTEM && !self.granted(action, &covers) {
            return Answer::Refused;
        }
        match &self.who.scopes {
            None => Answer::Allowed,
            Some(scopes) => {
                let inside = scopes.iter().any(|s| s.actions.contains(&action) && covers(&s.pattern));
                if inside { Answer::Allowed } else { Answer::OutOfScope }
            }
        }
    }

    fn granted(&self, action: Action, covers: &impl Fn(&RepoPattern) -> bool) -> bool {
        self.held().any(|(pattern, role)| role.allows(action) && covers(pattern))
    }

    /// What was granted to the principal by its name, to all who log in and to everybody.
    fn held(&self) -> impl Iterator<Item = &(RepoPattern, Role)> {
        let active = !self.is_suspended();
        let named = active && !self.who.is_anonymous();
        let own = self.grants.users.get(&self.who.name).filter(|_| named);
        let authenticated = named.then_some(&self.grants.authenticated);
        let anonymous = active.then_some(&self.grants.anonymous);
        own.into_iter().chain(authenticated).chain(anonymous).flatten()
    }

    /// What the names begin with of all repositories to which the principal may do `action`, as far as they begin with
    /// `within`: in order, none of them the beginning of another. Whoever lists repositories need not look elsewhere.
    pub fn beginnings(&self, action: Action, within: &str) -> Vec<String> {
        let mut found = vec![within];
        if self.who.name != Principal::SYSTEM {
            let granted = self.held().filter(|(_, role)| role.allows(action));
            found = common(&found, granted.map(|(pattern, _)| pattern.literal()).collect());
        }
        if let Some(scopes) = &self.who.scopes {
            let inside = scopes.iter().filter(|scope| scope.actions.contains(&action));
            found = common(&found, inside.map(|scope| scope.pattern.literal()).collect());
        }
        found.into_iter().map(str::to_owned).collect()
    }
}

/// The beginnings of names that begin with one of both lists.
fn common<'a>(one: &[&'a str], mut other: Vec<&'a str>) -> Vec<&'a str> {
    outermost(&mut other);
    let longer = |(a, b): (&'a str, &'a str)| match a.starts_with(b) {
        true => Some(a),
        false => b.starts_with(a).then_some(b),
    };
    let mut found: Vec<&str> =
        one.iter().flat_map(|a| other.iter().filter_map(move |b| longer((a, b)))).collect();
    outermost(&mut found);
    found
}

/// Puts them in order and drops what begins with another.
fn outermost(beginnings: &mut Vec<&str>) {
    beginnings.sort_unstable();
    beginnings.dedup_by(|next, kept| next.starts_with(*kept));
}
