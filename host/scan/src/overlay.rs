//! The few paths of an image that the scanner keeps, as the layers stack up: whiteouts, replaced directories, links.
//!
//! A link elsewhere is kept if it leads to one of them, as what is written through it lands there: a detour. Links that lead
//! nowhere yet are not kept: where one comes to lead somewhere by a later one, that can be told and not followed.
//!
//! Invariant: what is kept is bounded in bytes ([`KEPT_BYTES`]) whatever the layers hold; of other paths no more than the hashes of
//! where links lead is stored ([`NOWHERE_MAX`]).
//! Invariant: a layer's whiteouts hide what is below it and nothing of its own, in whatever order its archive lists them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use crate::layer::path;
use crate::packages::Record;
use crate::report::Distro;

/// Bytes of all nodes of all layers together, estimated.
pub(crate) const KEPT_BYTES: usize = 32 << 20;
/// What a kept record or node costs besides its text.
const NODE_BYTES: usize = 200;
const LINK_HOPS: u32 = 40;
/// Places that links lead to which are not kept; at most 20 bytes each.
const NOWHERE_MAX: usize = 1 << 20;

/// What the scanner does with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Release,
    DebianVersion,
    Dpkg,
    Apk,
    Copyright,
    /// A database that is not read: its presence says that packages are there.
    Foreign(&'static str),
    /// On the way to something of interest: a link or a file here changes what is found below.
    Way,
}

const WAYS: &[&str] = &[
    "etc",
    "lib",
    "lib/apk",
    "lib/apk/db",
    "usr",
    "usr/lib",
    "usr/lib/apk",
    "usr/lib/apk/db",
    "usr/lib/sysimage",
    "usr/lib/sysimage/rpm",
    "usr/share",
    "usr/share/doc",
    "usr/share/rpm",
    "var",
    "var/lib",
    "var/lib/dpkg",
    "var/lib/dpkg/status.d",
    "var/lib/pacman",
    "var/lib/pacman/local",
    "var/lib/rpm",
];

/// Files whose presence means packages that this version does not read.
pub(crate) const FOREIGN: &[(&str, &str)] = &[
    ("usr/lib/sysimage/rpm/Packages", "rpm"),
    ("usr/lib/sysimage/rpm/Packages.db", "rpm"),
    ("usr/lib/sysimage/rpm/rpmdb.sqlite", "rpm"),
    ("usr/share/rpm/Packages", "rpm"),
    ("usr/share/rpm/Packages.db", "rpm"),
    ("usr/share/rpm/rpmdb.sqlite", "rpm"),
    ("var/lib/pacman/local/ALPM_DB_VERSION", "pacman"),
    ("var/lib/rpm/Packages", "rpm"),
    ("var/lib/rpm/Packages.db", "rpm"),
    ("var/lib/rpm/rpmdb.sqlite", "rpm"),
];

/// `None` for the paths, nearly all of them, that are only counted.
pub(crate) fn interest(path: &str) -> Option<Interest> {
    match path {
        "etc/os-release" | "usr/lib/os-release" => return Some(Interest::Release),
        "etc/debian_version" => return Some(Interest::DebianVersion),
        "var/lib/dpkg/status" => return Some(Interest::Dpkg),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Interest::Apk),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("usr/share/doc/") {
        return match rest.split_once('/') {
            None => Some(Interest::Way),
            Some((_, "copyright")) => Some(Interest::Copyright),
            Some(_) => None,
        };
    }
    if let Some(name) = path.strip_prefix("var/lib/dpkg/status.d/") {
        let stanza = !name.contains('/') && !name.ends_with(".md5sums") && !name.ends_with(".preinst");
        return stanza.then_some(Interest::Dpkg);
    }
    if WAYS.binary_search(&path).is_ok() {
        return Some(Interest::Way);
    }
    FOREIGN.iter().find(|(p, _)| *p == path).map(|(_, name)| Interest::Foreign(name))
}

/// What is kept of one path.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Link(String),
    Release(Option<Distro>),
    DebianVersion(Option<String>),
    Packages(Vec<Record>),
    Licences(Vec<String>),
    Foreign(&'static str),
    /// Kept only because it hides what was below: a file where a directory or link was.
    Opaque,
}

impl Node {
    fn cost(&self, path: &str) -> usize {
        let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
        let body = match self {
            Self::Link(target) => target.len(),
            Self::Release(_) | Self::DebianVersion(_) => 1024,
            Self::Packages(records) => records
                .iter()
                .map(|r| {
                    let licences: usize = r.licences.iter().map(String::len).sum();
                    let names = r.name.len() + r.version.len() + r.arch.len();
                    NODE_BYTES + names + text(&r.source) + text(&r.source_version) + licences
                })
                .sum(),
            Self::Licences(names) => names.iter().map(|n| n.len() + 24).sum(),
            Self::Foreign(_) | Self::Opaque => 0,
        };
        NODE_BYTES + path.len() + body
    }

    fn tells_packages(&self) -> bool {
        matches!(self, Self::Packages(_) | Self::Link(_))
    }
}

/// [`KEPT_BYTES`] or [`NOWHERE_MAX`] would be exceeded; the node was not kept, or the place not remembered.
#[derive(Debug)]
pub(crate) struct Full;

/// The kept paths of the layers so far (`lower`) and of the one being read (`upper`).
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    lower: BTreeMap<String, Node>,
    upper: BTreeMap<String, Node>,
    cost: usize,
    /// Whether a package database appeared, changed or went since [`Overlay::seal`].
    dirty: bool,
    /// Whether there was ever a link at a path of no interest.
    has_detours: bool,
    /// Hashes of the places that links led to which were not kept.
    nowhere: HashSet<u64>,
    hasher: RandomState,
    /// A directory on whose path there is no link: members come in the order of their directories.
    plain: Option<String>,
}

impl Overlay {
    /// A whiteout of this layer: `path` and everything below it of the layers underneath is gone.
    pub(crate) fn whiteout(&mut self, path: &str) {
        take(&mut self.lower, path, &mut self.cost, &mut self.dirty);
        self.opaque(path);
    }

    /// What the layers underneath have inside the directory `path` is gone.
    pub(crate) fn opaque(&mut self, path: &str) {
        take_below(&mut self.lower, path, &mut self.cost, &mut self.dirty);
    }

    /// A directory of this layer: it joins a directory below it and replaces anything else.
    pub(crate) fn directory(&mut self, path: &str) {
        take(&mut self.lower, path, &mut self.cost, &mut self.dirty);
        take(&mut self.upper, path, &mut self.cost, &mut self.dirty);
    }

    /// Anything but a directory, of which nothing is kept: it replaces what was there, and what was below that.
    pub(crate) fn clear(&mut self, path: &str) {
        self.whiteout(path);
        take(&mut self.upper, path, &mut self.cost, &mut self.dirty);
        take_below(&mut self.upper, path, &mut self.cost, &mut self.dirty);
    }

    /// The same of what is kept.
    ///
    /// # Errors
    /// [`Full`]; the old content is gone nevertheless.
    pub(crate) fn put(&mut self, path: String, node: Node) -> Result<(), Full> {
        self.clear(&path);
        let cost = node.cost(&path);
        if self.cost + cost > KEPT_BYTES {
            return Err(Full);
        }
        self.cost += cost;
        self.dirty |= node.tells_packages();
        if matches!(node, Node::Link(_)) {
            self.has_detours |= interest(&path).is_none();
            self.plain = None;
        }
        self.upper.insert(path, node);
        Ok(())
    }

    /// Where an extractor puts a member named `path`: links among its directories are followed, as the kernel does.
    ///
    /// # Errors
    /// [`Lost::Loop`]
    pub(crate) fn place<'p>(&mut self, path: &'p str) -> Result<Cow<'p, str>, Lost> {
        let (directory, _) = path::split(path);
        if self.plain.as_deref() == Some(directory) {
            return Ok(Cow::Borrowed(path));
        }
        let place = self.followed(path, false)?;
        if place != path {
            return Ok(Cow::Owned(place));
        }
        self.plain = Some(directory.to_owned());
        Ok(Cow::Borrowed(path))
    }

    /// The same of a directory that is named itself.
    ///
    /// # Errors
    /// [`Lost::Loop`]
    pub(crate) fn place_of_directory(&self, path: &str) -> Result<String, Lost> {
        self.followed(path, true)
    }

    /// Where a symbolic link at `path` leads by the links so far, if something of interest is in or below that directory. Any other
    /// place is remembered.
    ///
    /// # Errors
    /// [`Full`]
    pub(crate) fn leads(&mut self, path: &str, target: &str) -> Result<Option<String>, Full> {
        let Ok(real) = self.followed(&path::join(path, target), true) else { return Ok(None) };
        if real.is_empty() || WAYS.binary_search(&real.as_str()).is_ok() {
            return Ok(Some(real));
        }
        if self.nowhere.len() >= NOWHERE_MAX {
            return Err(Full);
        }
        self.nowhere.insert(self.hasher.hash_one(real.as_str()));
        Ok(None)
    }

    /// Whether a link that was not kept leads to something of interest by a detour from `path` to the directory `real`.
    pub(crate) fn completes(&self, path: &str, real: &str) -> bool {
        let is_named = |place: &str| self.nowhere.contains(&self.hasher.hash_one(place));
        let below = |way: &'static str| match real {
            "" => Some(way),
            _ => way.strip_prefix(real)?.strip_prefix('/'),
        };
        is_named(path)
            || WAYS.iter().filter_map(|way| below(way)).any(|rest| is_named(&format!("{path}/{rest}")))
    }

    /// Whether there may be links at paths of no interest, which what is written there replaces.
    pub(crate) fn has_detours(&self) -> bool {
        self.has_detours
    }

    /// What is at `path`: of this layer if it has the path, else of those underneath.
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        self.upper.get(path).or_else(|| self.lower.get(path))
    }

    /// Ends the layer; true if the visible packages may have changed.
    pub(crate) fn seal(&mut self) -> bool {
        self.lower.append(&mut self.upper);
        std::mem::take(&mut self.dirty)
    }

    /// Follows links to the node that `path` names among the sealed layers.
    ///
    /// # Errors
    /// [`Lost`] if the links go in circles, or lead to a path that is not kept.
    pub(crate) fn find(&self, path: &str) -> Result<Option<(String, &Node)>, Lost> {
        let real = self.followed(path, true)?;
        match self.lower.get(&real) {
            Some(node) => Ok(Some((real, node))),
            None if real == path => Ok(None),
            // A link to a path of interest that is not there dangles; to any other, it may well be there.
            None if interest(&real).is_some() => Ok(None),
            None => Err(Lost::NotKept(real)),
        }
    }

    /// Files directly inside the directory that `path` names.
    ///
    /// # Errors
    /// As [`Overlay::find`].
    pub(crate) fn files_in(&self, path: &str) -> Result<Vec<&str>, Lost> {
        let real = self.followed(path, true)?;
        let prefix = format!("{real}/");
        // Behind a link to somewhere else there may well be some.
        if real != path && interest(&format!("{prefix}_")).is_none() {
            return Err(Lost::NotKept(real));
        }
        let range = self.lower.range(prefix.clone()..);
        Ok(range.map(|(p, _)| p.as_str()).take_while(|p| p.starts_with(&prefix)).collect())
    }

    /// `path` with the links among its directories resolved, and the `last` part if that is wanted.
    fn followed(&self, path: &str, last: bool) -> Result<String, Lost> {
        let mut path = path.to_owned();
        'again: for _ in 0..LINK_HOPS {
            let directories = path.match_indices('/').map(|(i, _)| i);
            for end in directories.chain(last.then_some(path.len())) {
                if let Some(Node::Link(target)) = self.node(&path[..end]) {
                    let rest = &path[end..];
                    let joined = format!("{}{rest}", path::join(&path[..end], target));
                    path = joined.trim_start_matches('/').to_owned();
                    continue 'again;
                }
            }
            return Ok(path);
        }
        Err(Lost::Loop(path))
    }
}

/// Why a path of interest could not be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("its links go in circles at `{0}`")]
    Loop(String),
    #[error("it is a link to `{0}`, which the scanner does not read as such a file")]
    NotKept(String),
}

fn take(nodes: &mut BTreeMap<String, Node>, path: &str, cost: &mut usize, dirty: &mut bool) {
    if let Some(node) = nodes.remove(path) {
        *cost = cost.saturating_sub(node.cost(path));
        *dirty |= node.tells_packages();
    }
}

fn take_below(nodes: &mut BTreeMap<String, Node>, path: &str, cost: &mut usize, dirty: &mut bool) {
    // The root has everything below it.
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let gone: Vec<String> = nodes
        .range(prefix.clone()..)
        .map(|(p, _)| p)
        .take_while(|p| p.starts_with(&prefix))
        .cloned()
        .collect();
    for path in gone {
        take(nodes, &path, cost, dirty);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(to: &str) -> Node {
        Node::Link(to.to_owned())
    }

    fn overlay(nodes: &[(&str, Node)]) -> Overlay {
        let mut overlay = Overlay::default();
        for (path, node) in nodes {
            overlay.put((*path).to_owned(), node.clone()).unwrap();
        }
        overlay.seal();
        overlay
    }

    #[test]
    fn ways_are_sorted_for_the_search() {
        assert!(WAYS.is_sorted());
        assert_eq!(interest("var/lib/dpkg"), Some(Interest::Way));
        assert_eq!(interest("usr/share/doc/zlib1g"), Some(Interest::Way));
        assert_eq!(interest("var/lib/dpkg/status.d/base.md5sums"), None);
        assert_eq!(interest("usr/bin/true"), None);
    }

    #[test]
    fn a_whiteout_hides_below_but_not_beside_it() {
        let mut o =
            overlay(&[("var/lib/dpkg/status", Node::Packages(vec![])), ("etc/os-release", Node::Opaque)]);
        o.put("var/lib/dpkg/status.d/x".into(), Node::Opaque).unwrap();
        o.whiteout("var/lib/dpkg");
        assert!(o.seal());
        assert!(o.find("var/lib/dpkg/status").unwrap().is_none());
        assert!(o.find("var/lib/dpkg/status.d/x").unwrap().is_some());
        assert!(o.find("etc/os-release").unwrap().is_some());
    }

    #[test]
    fn follows_links_of_directories_and_files() {
        let o = overlay(&[
            ("lib", link("usr/lib")),
            ("usr/lib/apk/db/installed", Node::Packages(vec![])),
            ("etc/os-release", link("../usr/lib/os-release")),
            ("usr/lib/os-release", Node::Release(None)),
        ]);
        assert_eq!(o.find("lib/apk/db/installed").unwrap().unwrap().0, "usr/lib/apk/db/installed");
        assert_eq!(o.find("etc/os-release").unwrap().unwrap().0, "usr/lib/os-release");
    }

    #[test]
    fn loops_and_strange_targets_are_told() {
        let o = overlay(&[("lib", link("/lib")), ("var", link("../../srv/var")), ("etc", link("usr/lib"))]);
        assert!(matches!(o.find("lib/apk/db/installed"), Err(Lost::Loop(_))));
        assert_eq!(
            o.find("var/lib/dpkg/status").unwrap_err(),
            Lost::NotKept("srv/var/lib/dpkg/status".to_owned())
        );
        assert!(o.find("etc/os-release").unwrap().is_none());
    }

    #[test]
    fn a_file_replaces_a_directory_and_a_directory_a_link() {
        let mut o = overlay(&[("var/lib/dpkg/status", Node::Packages(vec![]))]);
        o.put("var/lib".into(), Node::Opaque).unwrap();
        o.seal();
        assert!(o.find("var/lib/dpkg/status").unwrap().is_none());
        let mut o =
            overlay(&[("lib", link("usr/lib")), ("usr/lib/apk/db/installed", Node::Packages(vec![]))]);
        o.directory("lib");
        o.seal();
        assert!(o.find("lib/apk/db/installed").unwrap().is_none());
    }

    #[test]
    fn refuses_to_grow_beyond_its_bound_and_frees_what_goes() {
        let mut o = Overlay::default();
        let mut kept = 0;
        while o.put(format!("usr/share/doc/{kept}"), link(&"x".repeat(4000))).is_ok() {
            kept += 1;
        }
        assert!(kept > 5000);
        o.seal();
        o.whiteout("usr/share");
        assert_eq!(o.cost, 0);
    }
}
