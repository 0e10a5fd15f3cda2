//! What the target on the command line names: something on this machine, or an image in a registry.

use std::path::{Path, PathBuf};

use crate::cli::exit::Stop;

/// Prefixes of skopeo, podman, syft and trivy before a path; what is there tells what it is.
const HERE: &[&str] = &["oci", "oci-dir", "oci-archive", "docker-archive", "dir"];
/// Those before a reference.
const REGISTRY: &[&str] = &["docker://", "registry:"];
/// Stores of other programs, which are not read.
const STORES: &[&str] = &["docker", "docker-daemon", "podman", "containerd", "containers-storage"];

/// Where a target is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here {
        path: PathBuf,
        tag: Option<String>,
    },
    /// Under this name.
    Registry(String),
}

impl Place {
    /// A path that is there counts before a prefix, that with a tag only after one, and both before a host of such a name.
    ///
    /// # Errors
    /// [`Stop`] where a prefix promises a path and there is none, or names a store that is not read.
    pub(super) fn of(target: &str) -> Result<Self, Stop> {
        let (prefix, rest) = target.split_once(':').unwrap_or_default();
        let prefixed = || here(rest).filter(|_| HERE.contains(&prefix));
        let whole = Path::new(target).exists().then(|| (target.into(), None));
        if let Some((path, tag)) = whole.or_else(prefixed).or_else(|| here(target)) {
            return Ok(Self::Here { path, tag });
        }
        if let Some(name) = REGISTRY.iter().find_map(|prefix| target.strip_prefix(prefix)) {
            return Ok(Self::Registry(name.to_owned()));
        }
        match is_port(rest) {
            false if HERE.contains(&prefix) => Err(Stop::not_found(format!(
                "there is no `{rest}`; hint: `{prefix}:PATH` or `{prefix}:PATH:TAG`"
            ))),
            false if STORES.contains(&prefix) => Err(Stop::usage(format!(
                "the images of `{prefix}` are not read; hint: `docker save {rest} -o image.tar`, then `wharf scan image.tar`"
            ))),
            _ => Ok(Self::Registry(target.to_owned())),
        }
    }
}

/// Whether a host with a port is meant, such as `docker:5000/dev/app`.
fn is_port(rest: &str) -> bool {
    rest.split_once('/').is_some_and(|(port, _)| port.parse::<u16>().is_ok())
}

/// A path that is there, and the tag that may follow it. A path may hold colons itself, so the longest that is there counts.
fn here(target: &str) -> Option<(PathBuf, Option<String>)> {
    if Path::new(target).exists() {
        return Some((target.into(), None));
    }
    let colons: Vec<usize> = target.match_indices(':').map(|(at, _)| at).collect();
    colons.into_iter().rev().find_map(|at| {
        let (path, tag) = (&target[..at], &target[at + 1..]);
        Path::new(path).exists().then(|| (path.into(), Some(tag.to_owned())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_told_by_what_is_there_and_then_by_its_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a:b");
        std::fs::write(&path, "x").unwrap();
        let text = path.to_str().unwrap();
        let here = |tag: Option<&str>| Place::Here { path: path.clone(), tag: tag.map(str::to_owned) };
        for prefix in ["", "oci:", "oci-archive:", "docker-archive:", "dir:"] {
            assert_eq!(Place::of(&format!("{prefix}{text}")).unwrap(), here(None), "{prefix}");
            assert_eq!(
                Place::of(&format!("{prefix}{text}:app:1.4")).unwrap(),
                here(Some("app:1.4")),
                "{prefix}"
            );
        }
        for (target, expected) in [
            ("registry.example.com/app:1.4", "registry.example.com/app:1.4"),
            ("docker://registry.example.com/app:1.4", "registry.example.com/app:1.4"),
            ("registry:registry.example.com/app", "registry.example.com/app"),
            ("docker:5000/dev/app:1", "docker:5000/dev/app:1"),
            ("oci-dir:5000/app", "oci-dir:5000/app"),
        ] {
            assert_eq!(Place::of(target).unwrap(), Place::Registry(expected.to_owned()), "{target}");
        }
    }

    #[test]
    fn a_prefix_that_names_nothing_here_has_a_hint() {
        for (target, hint) in [
            ("oci-dir:no/such/layout:1.4", "there is no `no/such/layout:1.4`; hint: `oci-dir:PATH`"),
            ("docker-daemon:app:1.4", "hint: `docker save app:1.4 -o image.tar`"),
            ("podman:app", "hint: `docker save app"),
        ] {
            let error = Place::of(target).unwrap_err().to_string();
            assert!(error.contains(hint), "{target}: {error}");
        }
    }
}
