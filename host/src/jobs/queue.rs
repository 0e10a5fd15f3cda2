use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};

/// A kind of work, with limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queue {
    /// Read an image's layers.
    Scan,
    /// Ask the bound policies about one tag.
    Judge,
    /// Ask them again about many: a plugin, a binding or vulnerability data changed.
    Rejudge,
    /// Take a new referrer along to where its subject was promoted.
    Follow,
    /// Compare stored bills of materials with new vulnerability data.
    Rematch,
    /// Collection, retention, the scrub, and what is left of large deletes.
    Housekeeping,
}

impl Queue {
    pub const ALL: [Queue; 6] =
        [Queue::Scan, Queue::Judge, Queue::Rejudge, Queue::Follow, Queue::Rematch, Queue::Housekeeping];

    pub const fn name(self) -> &'static str {
        match self {
            Queue::Scan => "scan",
            Queue::Judge => "judge",
            Queue::Rejudge => "rejudge",
            Queue::Follow => "follow",
            Queue::Rematch => "rematch",
            Queue::Housekeeping => "housekeeping",
        }
    }

    /// How many of its jobs run at once, unless configured.
    pub const fn concurrency(self) -> usize {
        match self {
            Queue::Scan => 2,
            Queue::Judge | Queue::Rejudge | Queue::Follow => 4,
            Queue::Rematch | Queue::Housekeeping => 1,
        }
    }

    /// After this long a run is stopped and counts as failed.
    pub const fn deadline(self) -> Duration {
        match self {
            Queue::Judge => Duration::from_secs(120),
            Queue::Scan | Queue::Follow => Duration::from_secs(3600),
            Queue::Rejudge | Queue::Rematch | Queue::Housekeeping => Duration::from_secs(4 * 3600),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a queue; hint: scan, judge, rejudge, follow, rematch or housekeeping")]
pub struct UnknownQueue(String);

impl FromStr for Queue {
    type Err = UnknownQueue;

    fn from_str(text: &str) -> Result<Self, UnknownQueue> {
        let known = Queue::ALL.into_iter().find(|queue| queue.name() == text);
        known.ok_or_else(|| UnknownQueue(text.chars().take(64).collect()))
    }
}

/// What a job does. Mass work is one job with a place to go on from, never a row for each item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Work {
    /// Scan the image, or each platform of the index, that this repository holds.
    Scan {
        repository: RepoName,
        digest: Digest,
    },
    Judge {
        repository: RepoName,
        tag: Tag,
    },
    /// Judge again what this binding has an opinion of, and what its pattern matches.
    RejudgeBinding {
        binding: String,
        #[serde(default)]
        from: Option<String>,
    },
    /// Judge again what the bindings of this plugin have an opinion of.
    RejudgePlugin {
        plugin: String,
        #[serde(default)]
        from: Option<String>,
    },
    /// Judge again whatever waits for an answer about this image; where a repository is named, there alone.
    RejudgeImage {
        digest: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<RepoName>,
        /// Where the scan that asks was made, whose turn it takes; others may hold the image, too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scanned_in: Option<RepoName>,
        #[serde(default)]
        from: Option<String>,
    },
    /// Forget how tags of this repository stood that were hidden with their manifest.
    Forget {
        repository: RepoName,
        #[serde(default)]
        from: Option<String>,
    },
    /// Take this manifest of the repository, with what refers to it, along to where images went that it is about.
    Follow {
        repository: RepoName,
        digest: Digest,
    },
    /// Compare all stored bills of materials again.
    Rematch {
        #[serde(default)]
        from: Option<String>,
    },
    /// Remove the tags of deleted manifests that are hidden already.
    Untag {
        repository: RepoName,
        #[serde(default)]
        from: Option<String>,
    },
    /// Unlink what nothing names any more.
    Collect,
    /// Drop events, refusals, decisions and documents that are past their retention.
    Trim,
    /// Read blobs again, to find what the disk has damaged.
    Scrub,
}

impl Work {
    pub fn queue(&self) -> Queue {
        match self {
            Work::Scan { .. } => Queue::Scan,
            Work::Judge { .. } => Queue::Judge,
            Work::RejudgeBinding { .. }
            | Work::RejudgePlugin { .. }
            | Work::RejudgeImage { .. }
            | Work::Forget { .. } => Queue::Rejudge,
            Work::Follow { .. } => Queue::Follow,
            Work::Rematch { .. } => Queue::Rematch,
            Work::Untag { .. } | Work::Collect | Work::Trim | Work::Scrub => Queue::Housekeeping,
        }
    }

    /// Whose work it is: namespaces take turns. Empty for the server's own.
    pub fn namespace(&self) -> &str {
        match self {
            Work::Scan { repository, .. }
            | Work::Judge { repository, .. }
            | Work::RejudgeImage { repository: Some(repository), .. }
            | Work::RejudgeImage { scanned_in: Some(repository), .. }
            | Work::Forget { repository, .. }
            | Work::Follow { repository, .. }
            | Work::Untag { repository, .. } => repository.namespace(),
            _ => "",
        }
    }

    /// The same work from another place on; work without a place stays as it is.
    pub fn going_on(&self, place: Option<String>) -> Work {
        let mut work = self.clone();
        match &mut work {
            Work::RejudgeBinding { from, .. }
            | Work::RejudgePlugin { from, .. }
            | Work::RejudgeImage { from, .. }
            | Work::Forget { from, .. }
            | Work::Rematch { from }
            | Work::Untag { from, .. } => *from = place,
            Work::Scan { .. }
            | Work::Judge { .. }
            | Work::Follow { .. }
            | Work::Collect
            | Work::Trim
            | Work::Scrub => {}
        }
        work
    }

    /// What one job at a time may work on.
    pub fn subject(&self) -> String {
        match self {
            Work::Scan { repository, digest } => format!("{repository}@{digest}"),
            Work::Judge { repository, tag } => format!("{repository}:{tag}"),
            Work::RejudgeBinding { binding, .. } => format!("binding {binding}"),
            Work::RejudgePlugin { plugin, .. } => format!("plugin {plugin}"),
            Work::RejudgeImage { digest, repository: Some(repository), .. } => {
                format!("image {repository}@{digest}")
            }
            Work::RejudgeImage { digest, repository: None, .. } => format!("image {digest}"),
            Work::Forget { repository, .. } => format!("forget {repository}"),
            Work::Follow { repository, digest } => format!("{repository}@{digest}"),
            Work::Rematch { .. } => "vulnerability data".to_owned(),
            Work::Untag { repository, .. } => format!("untag {repository}"),
            Work::Collect => "collect".to_owned(),
            Work::Trim => "trim".to_owned(),
            Work::Scrub => "scrub".to_owned(),
        }
    }
}
