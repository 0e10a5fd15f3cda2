//! A plain directory that holds a root file system, scanned as one layer without digests.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::assembly::{Assembly, LIMIT_ENTRIES};
use crate::limits::Limits;
use crate::overlay::{Interest, interest};
use crate::report::{ImageFacts, LayerFacts, ProblemCode, Report};
use crate::{Progress, conclude};

/// Files between two calls of the progress function.
const PROGRESS_FILES: u64 = 4096;
/// What a running system mounts at its root that is not on any disk (`wharf scan /`).
const NOT_ON_DISK: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Scans the tree under `root`. Symbolic links are read, never followed, so nothing outside `root` is opened. The mounts of a
/// running system that hold no files of their own (`/proc` and its like) are passed over.
///
/// # Errors
/// If `root` itself cannot be listed; what cannot be read inside becomes a problem in the report.
pub fn scan_directory(
    root: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Report> {
    let device = fs::metadata(root)?.dev();
    fs::read_dir(root)?;
    let mut assembly = Assembly::new(limits);
    let mut facts = LayerFacts::default();
    let mut pending = vec![PathBuf::new()];
    let mut seen = 0;
    while let Some(directory) = pending.pop() {
        let listed = match fs::read_dir(root.join(&directory)) {
            Ok(listed) => listed,
            Err(error) => {
                unreadable(&mut assembly, &directory, &error);
                continue;
            }
        };
        for entry in listed {
            seen += 1;
            if seen > limits.entries {
                assembly.problem(ProblemCode::Limit, None, LIMIT_ENTRIES.to_owned());
                pending.clear();
                break;
            }
            let result = entry.and_then(|entry| {
                if is_not_on_disk(&entry, &directory, device)? {
                    return Ok(());
                }
                one(&entry, &directory, &mut pending, &mut facts, &mut assembly)
            });
            if let Err(error) = result {
                unreadable(&mut assembly, &directory, &error);
            }
            if facts.files % PROGRESS_FILES == 0 {
                progress(Progress {
                    layer: 0,
                    of: 1,
                    stored: facts.uncompressed,
                    uncompressed: facts.uncompressed,
                });
            }
        }
    }
    assembly.end_layer();
    Ok(conclude(ImageFacts::default(), vec![facts], assembly))
}

/// Whether `entry` is one of [`NOT_ON_DISK`]: of the root, and of another device than that.
fn is_not_on_disk(entry: &fs::DirEntry, directory: &Path, device: u64) -> io::Result<bool> {
    let named = directory.as_os_str().is_empty() && NOT_ON_DISK.iter().any(|name| entry.file_name() == *name);
    Ok(named && entry.metadata()?.dev() != device)
}

fn one(
    entry: &fs::DirEntry,
    directory: &Path,
    pending: &mut Vec<PathBuf>,
    facts: &mut LayerFacts,
    assembly: &mut Assembly<'_>,
) -> io::Result<()> {
    let path = directory.join(entry.file_name());
    let kind = entry.file_type()?;
    if kind.is_dir() {
        pending.push(path);
        return Ok(());
    }
    let name = path.to_string_lossy();
    if kind.is_symlink() {
        assembly.loose_link(&name, &fs::read_link(entry.path())?.to_string_lossy());
    } else if kind.is_file() {
        facts.files += 1;
        facts.uncompressed += entry.metadata()?.len();
        if let Some(interest) = interest(&name) {
            let data = read_bounded(&entry.path(), assembly.room(interest), interest)?;
            assembly.loose(&name, data.as_deref());
        }
    }
    Ok(())
}

fn read_bounded(path: &Path, max: usize, interest: Interest) -> io::Result<Option<Vec<u8>>> {
    if matches!(interest, Interest::Foreign(_) | Interest::Way) {
        return Ok(None);
    }
    let mut data = Vec::new();
    fs::File::open(path)?.take(max as u64 + 1).read_to_end(&mut data)?;
    Ok((data.len() <= max).then_some(data))
}

fn unreadable(assembly: &mut Assembly<'_>, path: &Path, error: &io::Error) {
    let text = format!("it cannot be read: {error}");
    assembly.problem(ProblemCode::Unreadable, Some(&path.to_string_lossy()), text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OS_RELEASE, stanza};
    use crate::{Knowledge, ProblemCode};

    #[test]
    fn mounts_of_a_running_system_are_passed_over() {
        let device = fs::metadata("/").unwrap().dev();
        let entry =
            |name: &str| fs::read_dir("/").unwrap().flatten().find(|e| e.file_name() == name).unwrap();
        assert!(is_not_on_disk(&entry("proc"), Path::new(""), device).unwrap());
        assert!(!is_not_on_disk(&entry("proc"), Path::new("srv"), device).unwrap());
        assert!(!is_not_on_disk(&entry("etc"), Path::new(""), device).unwrap());
    }

    #[test]
    fn reads_a_root_file_system_and_nothing_outside_it() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("status"), stanza("outside", "1")).unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        fs::write(root.path().join("etc/os-release"), OS_RELEASE).unwrap();
        fs::write(root.path().join("var/lib/dpkg/status"), stanza("a", "1")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("lib")).unwrap();
        let report = scan_directory(root.path(), &Limits::default(), &mut |_| {}).unwrap();
        assert_eq!(report.packages.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(report.layers[0].files, 2);

        fs::remove_file(root.path().join("var/lib/dpkg/status")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("status"), root.path().join("var/lib/dpkg/status"))
            .unwrap();
        let report = scan_directory(root.path(), &Limits::default(), &mut |_| {}).unwrap();
        assert_eq!((report.packages.len(), report.knowledge), (0, Knowledge::Partial));
        assert!(report.problems.iter().any(|p| p.code == ProblemCode::Link));
    }
}
