//! Puts the layers together: members come in, packages with their layers go out.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read;

use crate::layer::path;
use crate::layer::tar::{Entry, Kind, Tar, TarError};
use crate::limits::Limits;
use crate::overlay::{self, FOREIGN, Full, Interest, Lost, Node, Overlay, interest};
use crate::packages::{Parsed, Record, apk, copyright, dpkg, release};
use crate::purl;
use crate::report::{Distro, Knowledge, LayerFacts, Package, PackageKind, Problem, ProblemCode};

/// Bytes of `os-release` and `debian_version`.
const RELEASE_BYTES: usize = 64 << 10;
/// Bytes of all licences in one report; packages may share a file, so files alone do not bound it. Nobody may take a package
/// for one without licences because of it, so whatever is left out is a problem.
pub(crate) const LICENCE_BYTES: usize = 8 << 20;
/// Bytes of one problem's path or message.
const PROBLEM_BYTES: usize = 300;

pub(crate) const LIMIT_ENTRIES: &str =
    "more members than `entries` allows; the rest of the layer was not read";

/// Everything learned so far.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    limits: &'a Limits,
    overlay: Overlay,
    /// Hash of (kind, name, version, arch) of each visible package → the layer that brought it.
    brought: HashMap<u64, u32>,
    hasher: RandomState,
    layer: u32,
    entries: u64,
    pub(crate) problems: Vec<Problem>,
    pub(crate) problems_dropped: u64,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            overlay: Overlay::default(),
            brought: HashMap::new(),
            hasher: RandomState::new(),
            layer: 0,
            entries: limits.entries,
            problems: Vec::new(),
            problems_dropped: 0,
        }
    }

    pub(crate) fn entries_left(&self) -> u64 {
        self.entries
    }

    /// Notes a problem of the current layer.
    pub(crate) fn problem(&mut self, code: ProblemCode, path: Option<&str>, message: String) {
        let layer = Some(self.layer);
        self.note(Problem { code, layer, path: path.map(str::to_owned), message });
    }

    pub(crate) fn note(&mut self, mut problem: Problem) {
        if self.problems.len() >= self.limits.problems as usize {
            self.problems_dropped += 1;
            return;
        }
        cut(&mut problem.message);
        problem.path.as_mut().map(cut);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Takes one member of the current layer's archive.
    ///
    /// # Errors
    /// Only if the archive cannot be read further; what is wrong with the member alone becomes a problem.
    pub(crate) fn member<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut Tar<R>,
        facts: &mut LayerFacts,
    ) -> Result<(), TarError> {
        self.entries -= 1;
        let path = if entry.oversized { None } else { path::normal(&entry.path, self.limits.path_bytes) };
        let Some(path) = path else {
            let text = "a member's name is over its bound or leaves the image".to_owned();
            self.problem(ProblemCode::Path, Some(&entry.path), text);
            return Ok(());
        };
        let (directory, name) = path::split(&path);
        if let Some(hidden) = name.strip_prefix(".wh.") {
            facts.whiteouts += u64::from(self.whiteout(directory, hidden));
            return Ok(());
        }
        if matches!(entry.kind, Kind::File | Kind::Sparse | Kind::HardLink) {
            facts.files += 1;
        }
        let path = match self.overlay.place(&path) {
            Ok(place) => place,
            Err(lost) => {
                self.problem(ProblemCode::Link, Some(&path), lost.to_string());
                return Ok(());
            }
        };
        let Some(interest) = interest(&path) else {
            self.elsewhere(&path, entry);
            return Ok(());
        };
        let node = match entry.kind {
            Kind::Directory => {
                self.overlay.directory(&path);
                return Ok(());
            }
            Kind::Symlink => Node::Link(entry.link.clone()),
            Kind::HardLink => self.hard_link(&path, interest, &entry.link),
            Kind::File => match archive.read_all(self.room(interest))? {
                Some(data) => self.parse(interest, &path, &data),
                None => self.unread(interest, &path, "it is larger than the scanner reads"),
            },
            Kind::Sparse => self.unread(interest, &path, "it is stored as a sparse file"),
            Kind::Other => Node::Opaque,
        };
        self.keep(path.into_owned(), node);
        Ok(())
    }

    /// Takes a member at a path of no interest: all it can be is a detour, or what comes in the place of one.
    fn elsewhere(&mut self, path: &str, entry: &Entry) {
        // The image's root stays what it is.
        if path.is_empty() {
            return;
        }
        let link = match entry.kind {
            Kind::Symlink => Some(entry.link.clone()),
            Kind::HardLink => self.link_named(&entry.link),
            _ => None,
        };
        if let Some(link) = link
            && self.detour(path, link)
        {
            return;
        }
        match entry.kind {
            _ if !self.overlay.has_detours() => {}
            Kind::Directory => self.overlay.directory(path),
            _ => self.overlay.clear(path),
        }
    }

    /// Keeps a link at a path of no interest if it is a detour.
    fn detour(&mut self, path: &str, target: String) -> bool {
        match self.overlay.leads(path, &target) {
            Ok(Some(real)) => {
                if self.overlay.completes(path, &real) {
                    let text =
                        "a link that came before leads through it, so what is written there is not seen";
                    self.problem(ProblemCode::Link, Some(path), text.to_owned());
                }
                self.keep(path.to_owned(), Node::Link(target));
                true
            }
            Ok(None) => false,
            Err(Full) => {
                let text = "too many links to remember where all of them lead".to_owned();
                self.problem(ProblemCode::Limit, None, text);
                false
            }
        }
    }

    /// Takes the whiteout `.wh.{hidden}` in `directory`; false for what only looks like one.
    fn whiteout(&mut self, directory: &str, hidden: &str) -> bool {
        // A directory that cannot be reached has nothing to hide.
        let Ok(directory) = self.overlay.place_of_directory(directory) else { return true };
        match hidden {
            ".wh..opq" => self.overlay.opaque(&directory),
            // Other names of this form are aufs's own files.
            hidden if hidden.starts_with(".wh.") || hidden.is_empty() => return false,
            hidden if directory.is_empty() => self.overlay.whiteout(hidden),
            hidden => self.overlay.whiteout(&format!("{directory}/{hidden}")),
        }
        true
    }

    /// Takes one file that is not in an archive (a plain directory).
    pub(crate) fn loose(&mut self, path: &str, data: Option<&[u8]>) {
        let Some(interest) = interest(path) else { return };
        let node = match data {
            Some(data) => self.parse(interest, path, data),
            None => self.unread(interest, path, "it is larger than the scanner reads"),
        };
        self.keep(path.to_owned(), node);
    }

    /// Takes one symbolic link that is not in an archive.
    pub(crate) fn loose_link(&mut self, path: &str, target: &str) {
        if interest(path).is_some() {
            self.keep(path.to_owned(), Node::Link(target.to_owned()));
        }
    }

    /// Bytes of a file of this interest that are read.
    pub(crate) fn room(&self, interest: Interest) -> usize {
        match interest {
            // Nearly all copyright files are small; that of boost has 2 MB.
            Interest::Dpkg | Interest::Apk | Interest::Copyright => self.limits.file_bytes as usize,
            Interest::Release | Interest::DebianVersion => RELEASE_BYTES,
            Interest::Foreign(_) | Interest::Way => 0,
        }
    }

    fn keep(&mut self, path: String, node: Node) {
        let shown = path.clone();
        if self.overlay.put(path, node).is_err() {
            let text = "too much to keep of one image; this path was left out".to_owned();
            self.problem(ProblemCode::Limit, Some(&shown), text);
        }
    }

    fn parse(&mut self, interest: Interest, path: &str, data: &[u8]) -> Node {
        let max = self.limits.packages as usize;
        match interest {
            Interest::Dpkg => self.records(path, dpkg::parse(data, max)),
            Interest::Apk => self.records(path, apk::parse(data, max)),
            Interest::Release => Node::Release(release::parse(data)),
            Interest::DebianVersion => Node::DebianVersion(release::debian_version(data)),
            Interest::Copyright => self.licences_of(path, copyright::parse(data)),
            Interest::Foreign(name) => Node::Foreign(name),
            Interest::Way => Node::Opaque,
        }
    }

    fn records(&mut self, path: &str, parsed: Parsed) -> Node {
        if parsed.malformed > 0 {
            let text = format!("{} entries of the package database are malformed", parsed.malformed);
            self.problem(ProblemCode::Database, Some(path), text);
        }
        if parsed.unlicensed > 0 {
            let text = format!("{} licences of the package database were left out", parsed.unlicensed);
            self.problem(ProblemCode::Limit, Some(path), text);
        }
        if parsed.cut {
            let text = format!("more than {} packages; the rest was left out", self.limits.packages);
            self.problem(ProblemCode::Limit, Some(path), text);
        }
        Node::Packages(parsed.records)
    }

    fn licences_of(&mut self, path: &str, parsed: copyright::Parsed) -> Node {
        if parsed.cut {
            let text = "too many or too long `License:` fields; some licences were left out".to_owned();
            self.problem(ProblemCode::Limit, Some(path), text);
        }
        Node::Licences(parsed.licences)
    }

    /// A file of interest whose contents cannot be had.
    fn unread(&mut self, interest: Interest, path: &str, why: &str) -> Node {
        match interest {
            Interest::Foreign(name) => return Node::Foreign(name),
            Interest::Way => {}
            _ => self.problem(ProblemCode::Limit, Some(path), why.to_owned()),
        }
        Node::Opaque
    }

    /// Where the file is that a hard link names.
    fn place_named(&mut self, target: &str) -> String {
        let target = path::normal(target, self.limits.path_bytes).unwrap_or_default();
        let place = self.overlay.place(&target).map(Cow::into_owned);
        place.unwrap_or(target)
    }

    /// The text of the symbolic link that a hard link names, if it is one that is kept.
    fn link_named(&mut self, target: &str) -> Option<String> {
        let target = self.place_named(target);
        match self.overlay.node(&target) {
            Some(Node::Link(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn hard_link(&mut self, path: &str, interest: Interest, target: &str) -> Node {
        let target = self.place_named(target);
        match self.overlay.node(&target) {
            Some(node @ Node::Link(_)) => node.clone(),
            // What was read as a file of another kind tells nothing of one of this.
            Some(node) if overlay::interest(&target) == Some(interest) => node.clone(),
            _ if matches!(interest, Interest::Way | Interest::Copyright) => Node::Opaque,
            _ => {
                let text = format!(
                    "it is a hard link to `{target}`, which the scanner does not read as such a file"
                );
                self.problem(ProblemCode::Link, Some(path), text);
                Node::Opaque
            }
        }
    }

    /// Ends the current layer: packages that are visible now and were not before came with it.
    pub(crate) fn end_layer(&mut self) {
        if self.overlay.seal() {
            let mut brought = HashMap::new();
            for database in self.databases(&mut Vec::new()) {
                let Some((_, Node::Packages(records))) = self.overlay.find(&database).ok().flatten() else {
                    continue;
                };
                for record in records {
                    let key = self.key(record);
                    brought.insert(key, *self.brought.get(&key).unwrap_or(&self.layer));
                }
            }
            self.brought = brought;
        }
        self.layer += 1;
    }

    fn key(&self, record: &Record) -> u64 {
        self.hasher.hash_one((record.kind, &record.name, &record.version, &record.arch))
    }

    /// Paths of the package databases, links resolved, each once.
    fn databases(&self, lost: &mut Vec<(String, Lost)>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut candidates: Vec<String> =
            ["var/lib/dpkg/status", "lib/apk/db/installed", "usr/lib/apk/db/installed"]
                .map(str::to_owned)
                .into();
        match self.overlay.files_in("var/lib/dpkg/status.d") {
            Ok(files) => candidates.extend(files.into_iter().map(str::to_owned)),
            Err(error) => lost.push(("var/lib/dpkg/status.d".to_owned(), error)),
        }
        for path in candidates {
            match self.overlay.find(&path) {
                Ok(Some((real, Node::Packages(_)))) => {
                    found.insert(real);
                }
                // What could not be read was told of then.
                Ok(None | Some((_, Node::Opaque))) => {}
                Ok(Some((real, _))) => lost.push((path, Lost::NotKept(real))),
                Err(error) => lost.push((path, error)),
            }
        }
        found
    }

    /// Distribution, packages and how much of them is known.
    pub(crate) fn finish(&mut self) -> (Option<Distro>, Vec<Package>, Knowledge) {
        let distro = self.distro();
        let packages = self.packages(distro.as_ref());
        let foreign = self.foreign();
        if let Some(name) = foreign {
            let message = format!(
                "the image has an `{name}` database, which this version does not read: its packages are not known; hint: Debian's \
                 and Alpine's are read"
            );
            self.note(Problem { code: ProblemCode::UnsupportedDistro, layer: None, path: None, message });
        } else if packages.is_empty() {
            let message = "no package database was found, so what is in the image is not known".to_owned();
            self.note(Problem { code: ProblemCode::NoPackages, layer: None, path: None, message });
        }
        let gaps = self.problems_dropped > 0
            || self
                .problems
                .iter()
                .any(|p| !matches!(p.code, ProblemCode::NoPackages | ProblemCode::UnsupportedDistro));
        let knowledge = match (foreign.is_some() || packages.is_empty(), gaps) {
            (_, true) => Knowledge::Partial,
            (true, false) => Knowledge::Unsupported,
            (false, false) => Knowledge::Complete,
        };
        (distro, packages, knowledge)
    }

    /// The package system of a database that is not read. One may be behind a link as well.
    fn foreign(&mut self) -> Option<&'static str> {
        let mut lost = None;
        for (path, _) in FOREIGN {
            match self.overlay.find(path) {
                Ok(Some((_, Node::Foreign(name)))) => return Some(*name),
                Ok(_) => {}
                Err(error) => lost = Some((path, error)),
            }
        }
        if let Some((path, error)) = lost {
            self.lost(path, &error);
        }
        None
    }

    fn distro(&mut self) -> Option<Distro> {
        let mut distro = None;
        for path in ["etc/os-release", "usr/lib/os-release"] {
            match self.overlay.find(path) {
                Ok(Some((_, Node::Release(found)))) if distro.is_none() => distro.clone_from(found),
                Ok(_) => {}
                Err(error) => self.lost(path, &error),
            }
        }
        if let Some(Distro { id, version_id: version @ None, .. }) = &mut distro
            && id == "debian"
            && let Ok(Some((_, Node::DebianVersion(found)))) = self.overlay.find("etc/debian_version")
        {
            version.clone_from(found);
        }
        distro
    }

    fn lost(&mut self, path: &str, error: &Lost) {
        let problem = Problem {
            code: ProblemCode::Link,
            layer: None,
            path: Some(path.to_owned()),
            message: error.to_string(),
        };
        self.note(problem);
    }

    fn packages(&mut self, distro: Option<&Distro>) -> Vec<Package> {
        let mut lost = Vec::new();
        let databases = self.databases(&mut lost);
        for (path, error) in lost {
            self.lost(&path, &error);
        }
        let mut packages = Vec::new();
        let mut seen = BTreeSet::new();
        let mut licence_bytes = 0;
        let (mut cut, mut unlicensed) = (false, false);
        for path in databases {
            let Ok(Some((_, Node::Packages(records)))) = self.overlay.find(&path) else { continue };
            for record in records {
                let key = self.key(record);
                if !seen.insert(key) {
                    continue;
                }
                if packages.len() >= self.limits.packages as usize {
                    cut = true;
                    break;
                }
                let licences = self.licences(record);
                let bytes: usize = licences.iter().map(String::len).sum();
                let fits = licence_bytes + bytes <= LICENCE_BYTES;
                licence_bytes += if fits { bytes } else { 0 };
                unlicensed |= !fits;
                let licences = if fits { licences.to_vec() } else { Vec::new() };
                let layer = self.brought.get(&key).copied().unwrap_or_default();
                packages.push(package(record, licences, layer, &path, distro));
            }
        }
        if cut {
            let message = format!("more than {} packages; the rest was left out", self.limits.packages);
            self.note(Problem { code: ProblemCode::Limit, layer: None, path: None, message });
        }
        if unlicensed {
            let message =
                format!("more than {LICENCE_BYTES} bytes of licences; some packages are without theirs");
            self.note(Problem { code: ProblemCode::Limit, layer: None, path: None, message });
        }
        packages.sort_by(|a, b| {
            let key = |p: &Package| (p.kind, p.name.clone(), p.version.clone(), p.arch.clone());
            key(a).cmp(&key(b))
        });
        packages
    }

    fn licences<'r>(&'r self, record: &'r Record) -> &'r [String] {
        match record.kind {
            PackageKind::Apk => &record.licences,
            PackageKind::Deb => {
                match self.overlay.find(&format!("usr/share/doc/{}/copyright", record.name)) {
                    Ok(Some((_, Node::Licences(names)))) => names,
                    // Unknown licences are not a gap in the packages.
                    _ => &[],
                }
            }
        }
    }
}

fn package(
    record: &Record,
    licences: Vec<String>,
    layer: u32,
    path: &str,
    distro: Option<&Distro>,
) -> Package {
    Package {
        kind: record.kind,
        name: record.name.clone(),
        version: record.version.clone(),
        arch: record.arch.clone(),
        source: record.source.as_ref().unwrap_or(&record.name).clone(),
        source_version: record.source_version.as_ref().unwrap_or(&record.version).clone(),
        purl: purl::of(record, distro),
        licences,
        layer,
        path: path.to_owned(),
    }
}

fn cut(text: &mut String) {
    if text.len() > PROBLEM_BYTES {
        let end = text.floor_char_boundary(PROBLEM_BYTES);
        text.truncate(end);
        text.push('…');
    }
}
