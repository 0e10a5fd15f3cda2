//! The plugin folder: what is in it, once it has stopped changing.
//!
//! What an operator sees: a file that is copied, moved or linked into the folder is noticed at once, whatever tool did it; a file
//! that is still being written is not read.
//!
//! Invariant: the *folder* is watched. A rename, or Kubernetes swapping `..data`, tells nothing on the file that was there.
//! Every event but an opening means the same: look again. A slow poll and [`Watch::rescan`] mean it too.
//! Invariant: a file counts only if two looks, some time apart, found the same size, time and bytes.
//! Invariant: a folder that is gone is an empty one. One that is there and cannot be listed changes nothing. Either is told as a
//! file that cannot be read, under the folder's name and a slash, which no file has.
//! Invariant: names that start with a dot are none of ours: editors and copy tools put their unfinished work there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, Event, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::facts::sha256;
use crate::grant::MAX_GRANTS_BYTES;
use crate::inspect::MAX_PLUGIN_BYTES;

/// The most plugins of one folder; more are not read.
pub const MAX_FILES: usize = 256;

/// The most bytes of all plugins of one folder together: they are in memory while it is looked at.
pub const MAX_FOLDER_BYTES: usize = 512 << 20;

/// How the folder is watched.
#[derive(Debug, Clone, Copy)]
pub struct WatchConfig {
    /// How long nothing must have happened before the folder is read, in ms.
    pub debounce_ms: u64,
    /// The longest that events can put this off, in ms.
    pub max_debounce_ms: u64,
    /// How far apart the two looks at a file are, in ms.
    pub settle_ms: u64,
    /// How often the folder is looked at without an event, in ms.
    pub poll_ms: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { debounce_ms: 200, max_debounce_ms: 2_000, settle_ms: 50, poll_ms: 5_000 }
    }
}

/// One plugin file, and the operator's file beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The name of the `.wasm` file.
    pub file: String,
    /// `sha256:` and the hex digest of `bytes`.
    pub digest: String,
    /// Its bytes, at most [`MAX_PLUGIN_BYTES`] and one more, by which a larger file is known.
    pub bytes: Arc<[u8]>,
    /// The bytes of `<stem>.toml`.
    pub grants: Option<Vec<u8>>,
}

/// A `.wasm` file that is there and cannot be read, or the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name; what is not UTF-8 in it is escaped.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// The folder at one time, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What can be loaded.
    pub files: Vec<Seen>,
    /// What cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// The folder, where it cannot be listed: then nothing is known of its files.
    pub unlisted: Option<Unreadable>,
}

impl Snapshot {
    /// Whether it is of the same files, and of the same grants beside them.
    fn is_of(&self, stamps: &[Stamps]) -> bool {
        let readable = self.files.iter().map(|seen| (&seen.file, Some(seen.grants.is_some())));
        let mut read: Vec<_> = readable.chain(self.unreadable.iter().map(|one| (&one.file, None))).collect();
        read.sort_unstable();
        let stamped = stamps.iter().map(|(file, _, grants)| (file, Some(grants.is_some())));
        read.len() == stamps.len()
            && read
                .iter()
                .zip(stamped)
                .all(|(read, stamped)| read.0 == stamped.0 && (read.1.is_none() || read.1 == stamped.1))
    }
}

/// Why a folder that is there cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("plugin folder `{}`: {error}; hint: it must be a folder that the server may read", dir.display())]
pub struct WatchError {
    /// Which.
    pub dir: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// Reads the folder now. Files that are changing are looked at again, for up to 20 times the settling time; one that does not
/// settle is reported as unreadable.
///
/// # Errors
/// [`WatchError`].
pub fn scan(dir: &Path, settle: Duration) -> Result<Snapshot, WatchError> {
    let failed = |error| WatchError { dir: dir.to_owned(), error };
    let mut before = look(dir).map_err(failed)?;
    for _ in 0..MAX_LOOKS {
        std::thread::sleep(settle);
        let now = look(dir).map_err(failed)?;
        if now == before {
            return Ok(snapshot(now));
        }
        before = now;
    }
    // Something never settles. What was equal in the last two looks is good.
    std::thread::sleep(settle);
    let mut now = look(dir).map_err(failed)?;
    for (file, found) in &mut now {
        if before.get(file) != Some(found) {
            *found = Err("it keeps changing".to_owned());
        }
    }
    Ok(snapshot(now))
}

const MAX_LOOKS: u32 = 20;

/// What one look finds of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    stamp: Stamp,
    bytes: Arc<[u8]>,
    grants: Option<Vec<u8>>,
}

/// What tells a changed file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    len: u64,
    /// Of the inode, in s and ns: no tool can set it, while many set the time of the bytes to that of what they copy.
    changed: (i64, i64),
    inode: u64,
}

impl Stamp {
    /// Follows links: a link whose target was swapped has another stamp.
    fn of(path: &Path) -> io::Result<Self> {
        Self::read(&std::fs::metadata(path)?)
    }

    fn read(meta: &Metadata) -> io::Result<Self> {
        if !meta.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Self { len: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()), inode: meta.ino() })
    }
}

fn look(dir: &Path) -> io::Result<BTreeMap<String, Result<Found, String>>> {
    let mut room = MAX_FOLDER_BYTES;
    let find = |(file, readable): (String, Result<(), String>)| {
        let found = readable.and_then(|()| find(dir, &file, &mut room));
        (file, found)
    };
    Ok(plugin_names(dir)?.into_iter().map(find).collect())
}

/// What there is by name, and why it is not to be read.
type Names = BTreeMap<String, Result<(), String>>;

fn plugin_names(dir: &Path) -> io::Result<Names> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let reason = format!("{error}; no plugin of it is in force; hint: make the folder, or mount it");
            return Ok(Names::from([(folder_name(dir), Err(reason))]));
        }
        entries => entries?,
    };
    let mut names = Names::new();
    for entry in entries {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".wasm") && !bytes.starts_with(b".") {
            let readable = match name.to_str() {
                Some(_) => Ok(()),
                None => Err("its name is not UTF-8; hint: rename it".to_owned()),
            };
            names.insert(shown(&name), readable);
        }
    }
    if let Some(first) = names.keys().nth(MAX_FILES).cloned() {
        names.retain(|name, _| *name < first);
        let reason = format!(
            "it has more than {MAX_FILES} plugins, of which `{first}` and those after it are not read; hint: remove some"
        );
        names.insert(folder_name(dir), Err(reason));
    }
    Ok(names)
}

/// What the folder is called among its files.
fn folder_name(dir: &Path) -> String {
    format!("{}/", shown(dir.file_name().unwrap_or(dir.as_os_str())))
}

fn shown(name: &OsStr) -> String {
    name.to_str().map_or_else(|| name.as_encoded_bytes().escape_ascii().to_string(), str::to_owned)
}

/// The error says which file cannot be read, and why. `room` is how many bytes may still be read in this look.
fn find(dir: &Path, file: &str, room: &mut usize) -> Result<Found, String> {
    let (stamp, bytes) = read(&dir.join(file), MAX_PLUGIN_BYTES).map_err(|error| error.to_string())?;
    *room = room.checked_sub(bytes.len()).ok_or_else(|| {
        format!(
            "the plugins of the folder have more than {MAX_FOLDER_BYTES} bytes together; hint: remove some"
        )
    })?;
    let beside = Path::new(file).with_extension("toml");
    let grants = match read(&dir.join(&beside), MAX_GRANTS_BYTES) {
        Ok((_, bytes)) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("`{}` beside it: {error}", beside.display())),
    };
    Ok(Found { stamp, bytes: bytes.into(), grants })
}

/// The stamp of a file and its bytes: at most `max` and one more.
fn read(path: &Path, max: usize) -> io::Result<(Stamp, Vec<u8>)> {
    let file = open(path)?;
    let stamp = Stamp::read(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((stamp, bytes))
}

/// Opens without waiting: a pipe of that name has no other end, and no plugin would ever be loaded again.
fn open(path: &Path) -> io::Result<File> {
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits();
    OpenOptions::new().read(true).custom_flags(no_wait.cast_signed()).open(path)
}

fn snapshot(looked: BTreeMap<String, Result<Found, String>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (file, found) in looked {
        match found {
            Ok(Found { bytes, grants, .. }) => {
                snapshot.files.push(Seen { file, digest: sha256(&bytes), bytes, grants });
            }
            Err(reason) => snapshot.unreadable.push(Unreadable { file, reason }),
        }
    }
    snapshot
}

/// Watches a folder on a thread of its own; dropping it ends the thread.
#[derive(Debug)]
pub struct Watch {
    wake: SyncSender<()>,
    asked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `on_snapshot` with the folder as it is, and again after each change of it. The calls come one after the other on
    /// the watching thread: `on_snapshot` may take its time, and misses nothing by it.
    ///
    /// # Errors
    /// The thread cannot be started. A folder that cannot be read is reported as such, and looked for again with each poll.
    pub fn start(
        dir: PathBuf,
        config: WatchConfig,
        on_snapshot: impl FnMut(&Snapshot) + Send + 'static,
    ) -> io::Result<Self> {
        // One event is as good as many: what does not fit is not missed.
        let (wake, woken) = sync_channel(1);
        let (asked, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let worker = Worker {
            dir,
            config,
            wake: wake.clone(),
            woken,
            asked: Arc::clone(&asked),
            stop: Arc::clone(&stop),
            seen: None,
        };
        let thread =
            std::thread::Builder::new().name("plugin-watch".into()).spawn(move || worker.run(on_snapshot))?;
        Ok(Self { wake, asked, stop, thread: Some(thread) })
    }

    /// Has the folder read now and reported even if nothing has changed: for SIGHUP and the API. Does not wait for it.
    pub fn rescan(&self) {
        self.asked.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What tells a folder from another at its place: the number of one that is removed may go to the next.
type Folder = (u64, u64, Option<SystemTime>);

fn folder(dir: &Path) -> Option<Folder> {
    std::fs::metadata(dir).ok().map(|meta| (meta.dev(), meta.ino(), meta.created().ok()))
}

/// A file, and what tells whether it or the grants beside it changed.
type Stamps = (String, Option<Stamp>, Option<Stamp>);

/// A snapshot by digests.
type Gist = (Vec<(String, String, Option<String>)>, Vec<Unreadable>);

fn gist(snapshot: &Snapshot) -> Gist {
    let file = |seen: &Seen| (seen.file.clone(), seen.digest.clone(), seen.grants.as_deref().map(sha256));
    (snapshot.files.iter().map(file).collect(), snapshot.unreadable.clone())
}

struct Worker {
    dir: PathBuf,
    config: WatchConfig,
    wake: SyncSender<()>,
    woken: Receiver<()>,
    asked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// What was reported last, without the bytes: plugins may be large, and the loader keeps what it needs.
    seen: Option<Gist>,
}

impl Worker {
    fn run(mut self, mut on_snapshot: impl FnMut(&Snapshot)) {
        let mut events: Option<(RecommendedWatcher, Folder)> = None;
        let mut stamps = None;
        let mut forced = true;
        while !self.stop.load(Ordering::SeqCst) {
            // A folder that was removed and made again is another one, and its watch tells nothing.
            let folder = folder(&self.dir);
            if events.as_ref().map(|(_, folder)| *folder) != folder {
                events = folder.and_then(|folder| Some((self.watch_events()?, folder)));
            }
            let found = self.stamps();
            if forced || stamps.as_ref() != Some(&found) {
                // A file that makes the loader panic must not end the watch: the next one would never be seen.
                let reported = AssertUnwindSafe(|| self.report(forced, &found, &mut on_snapshot));
                let settled = catch_unwind(reported).unwrap_or_else(|_| {
                    tracing::error!(dir = %self.dir.display(), "loading plugins panicked; they stay as they are");
                    true
                });
                // Taken before the report: what changes meanwhile is seen the next time.
                stamps = settled.then_some(found);
            }
            forced = self.wait();
        }
    }

    /// False: files came or went between the look that `stamps` is of and the reading, or there was no reading, so no later look
    /// may be compared with that one. What came would be reported, go again, and leave the folder as it was at that look.
    fn report(&mut self, forced: bool, stamps: &[Stamps], on_snapshot: &mut impl FnMut(&Snapshot)) -> bool {
        let snapshot = match scan(&self.dir, Duration::from_millis(self.config.settle_ms)) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // When it can be listed again, that is news whatever is in it.
                self.seen = None;
                let unlisted = Unreadable { file: folder_name(&self.dir), reason: error.to_string() };
                on_snapshot(&Snapshot { unlisted: Some(unlisted), ..Snapshot::default() });
                return false;
            }
        };
        let gist = gist(&snapshot);
        let settled = snapshot.is_of(stamps);
        if forced || self.seen.as_ref() != Some(&gist) {
            on_snapshot(&snapshot);
            self.seen = Some(gist);
        }
        settled
    }

    fn watch_events(&self) -> Option<RecommendedWatcher> {
        let wake = self.wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A look opens the folder: if that led to the next, they would have no end.
            let is_look =
                event.is_ok_and(|event| matches!(event.kind, EventKind::Access(AccessKind::Open(_))));
            if !is_look {
                let _ = wake.try_send(());
            }
        });
        let watched = watcher.and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watched {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "plugin folder is polled, not watched");
                None
            }
        }
    }

    /// Cheap enough for a poll: nothing is read.
    fn stamps(&self) -> Vec<Stamps> {
        let unlisted = |error: io::Error| Names::from([(folder_name(&self.dir), Err(error.to_string()))]);
        let names = plugin_names(&self.dir).unwrap_or_else(unlisted);
        let stamp = |(file, readable): (String, Result<(), String>)| {
            let path = self.dir.join(&file);
            let of = |path: &Path| readable.as_ref().ok().and_then(|()| Stamp::of(path).ok());
            let (plugin, grants) = (of(&path), of(&path.with_extension("toml")));
            (file, plugin, grants)
        };
        names.into_iter().map(stamp).collect()
    }

    /// Until the next poll, or until events have come and gone quiet. True: somebody asked for a look.
    fn wait(&self) -> bool {
        if self.woken.recv_timeout(Duration::from_millis(self.config.poll_ms)).is_ok() {
            let deadline = Instant::now() + Duration::from_millis(self.config.max_debounce_ms);
            let quiet = Duration::from_millis(self.config.debounce_ms);
            let told = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
            while Instant::now() < deadline && !told(&self.stop) && !told(&self.asked) {
                if self.woken.recv_timeout(quiet).is_err() {
                    break;
                }
            }
        }
        self.asked.swap(false, Ordering::SeqCst)
    }
}
