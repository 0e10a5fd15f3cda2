use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};

/// What an event says. A variant may gain optional fields; it never loses one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Kind {
    /// A manifest was pushed, under a tag or by digest alone.
    ImagePushed {
        repository: RepoName,
        digest: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<Tag>,
        /// Promotions that led here, oldest first; empty for a push by a client.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lineage: Vec<Stage>,
        /// Manifest that this one refers to as its `subject`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Digest>,
    },
    TagDeleted {
        repository: RepoName,
        tag: Tag,
        digest: Digest,
        /// It was gone already: nobody saw it any more since its manifest was deleted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hidden: bool,
    },
    ManifestDeleted {
        repository: RepoName,
        digest: Digest,
        /// More tags pointed to it than went with it: they are hidden, and removed by a job.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tags_left: bool,
    },
    /// A tag was pointed at an image that stood elsewhere, by a binding or by hand.
    ImagePromoted {
        from: Stage,
        to: Stage,
        digest: Digest,
        /// The binding; absent for a promotion by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binding: Option<String>,
        /// What was given with a promotion by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Where the image stood before, oldest first; `from` is the last.
        lineage: Vec<Stage>,
        /// The decision in the source's history.
        decision: u64,
    },
    /// A referrer came to where its subject, or an image that this is part of, had been promoted before.
    ReferrerPromoted {
        from: RepoName,
        to: RepoName,
        digest: Digest,
        subject: Digest,
        /// The decision in the source's history that had led there.
        decision: u64,
    },
    /// It did not: whoever answers for that promotion may not any more, or it is more than one copy takes. A judgement
    /// that is asked for, or another promotion, tries again.
    ReferrerHeld {
        from: RepoName,
        to: RepoName,
        /// The manifest that was to go there with what refers to it.
        digest: Digest,
        reason: String,
    },
    /// A binding came to another verdict about a tag than before, or to its first.
    ImageJudged {
        repository: RepoName,
        tag: Tag,
        digest: Digest,
        binding: String,
        verdict: String,
        /// The decision in the tag's history.
        decision: u64,
        /// The first reason, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// An image that was promoted would not be promoted today.
    VerdictChanged {
        repository: RepoName,
        tag: Tag,
        digest: Digest,
        binding: String,
        was: String,
        verdict: String,
        decision: u64,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Somebody asks for a new judgement.
    JudgementAsked {
        repository: RepoName,
        tag: Tag,
        /// What the tag points at: scanned again where that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
    },
    /// The scan of one platform's image ended.
    ImageScanned {
        repository: RepoName,
        digest: Digest,
        /// `complete`, `partial`, `failed`, `unsupported`.
        scan: String,
        packages: u64,
        /// How far its packages were compared with vulnerability data: `none` without data about its distribution.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        matched: String,
        /// Absent where it is not known whether there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        findings: Option<u64>,
    },
    /// New vulnerability data changed what is known of a stored bill of materials.
    FindingsChanged {
        digest: Digest,
        /// As of [`ImageScanned`](Kind::ImageScanned).
        #[serde(default, skip_serializing_if = "String::is_empty")]
        matched: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        findings: Option<u64>,
    },
    VulnerabilityDataImported {
        version: String,
        sources: Vec<String>,
        advisories: u64,
        as_of_ms: u64,
    },
    BindingChanged {
        binding: String,
    },
    BindingRemoved {
        binding: String,
    },
    PluginLoaded {
        plugin: String,
        version: String,
        digest: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
    },
    PluginQuarantined {
        plugin: String,
        digest: String,
        stage: String,
        reason: String,
    },
    PluginRemoved {
        plugin: String,
    },
    /// The breaker opened: this plugin failed too often on this image, so the image is held.
    PluginBreakerOpened {
        plugin: String,
        digest: Digest,
        reason: String,
    },
    /// A job failed so often that it is not tried again by itself.
    JobDead {
        queue: String,
        subject: String,
        attempts: u32,
        reason: String,
    },
    JobCancelled {
        queue: String,
        subject: String,
    },
    UserAdded {
        user: String,
    },
    UserRemoved {
        user: String,
    },
    PasswordChanged {
        user: String,
    },
    UserSuspended {
        user: String,
    },
    UserResumed {
        user: String,
    },
    GrantAdded {
        subject: String,
        role: String,
        resource: String,
    },
    GrantRemoved {
        subject: String,
        role: String,
        resource: String,
    },
    TokenMade {
        user: String,
        token: String,
    },
    TokenRevoked {
        user: String,
        token: String,
    },
    RepositoryChanged {
        repository: RepoName,
        immutable_tags: Vec<String>,
    },
    QuotaChanged {
        namespace: String,
        max_bytes: Option<u64>,
    },
    /// A kind that a newer version wrote: read as this, never written.
    #[serde(other)]
    Unknown,
}

impl Kind {
    /// The names of all kinds, as events have them.
    pub const NAMES: [&str; 31] = [
        "image-pushed",
        "tag-deleted",
        "manifest-deleted",
        "image-promoted",
        "referrer-promoted",
        "referrer-held",
        "image-judged",
        "verdict-changed",
        "judgement-asked",
        "image-scanned",
        "findings-changed",
        "vulnerability-data-imported",
        "binding-changed",
        "binding-removed",
        "plugin-loaded",
        "plugin-quarantined",
        "plugin-removed",
        "plugin-breaker-opened",
        "job-dead",
        "job-cancelled",
        "user-added",
        "user-removed",
        "password-changed",
        "user-suspended",
        "user-resumed",
        "grant-added",
        "grant-removed",
        "token-made",
        "token-revoked",
        "repository-changed",
        "quota-changed",
    ];

    /// Whether there is a kind of this name.
    pub fn is_known(name: &str) -> bool {
        Kind::NAMES.contains(&name)
    }

    /// The repository that it is about, by which reading is allowed; none for what concerns the whole server.
    pub fn repository(&self) -> Option<&RepoName> {
        match self {
            Kind::ImagePushed { repository, .. }
            | Kind::TagDeleted { repository, .. }
            | Kind::ManifestDeleted { repository, .. }
            | Kind::ImageJudged { repository, .. }
            | Kind::VerdictChanged { repository, .. }
            | Kind::JudgementAsked { repository, .. }
            | Kind::RepositoryChanged { repository, .. }
            | Kind::ImageScanned { repository, .. } => Some(repository),
            Kind::ImagePromoted { from, .. } => Some(&from.repository),
            Kind::ReferrerPromoted { from, .. } | Kind::ReferrerHeld { from, .. } => Some(from),
            _ => None,
        }
    }

    /// Where something was promoted to.
    pub fn target(&self) -> Option<&RepoName> {
        match self {
            Kind::ImagePromoted { to, .. } => Some(&to.repository),
            Kind::ReferrerPromoted { to, .. } | Kind::ReferrerHeld { to, .. } => Some(to),
            _ => None,
        }
    }
}

/// One stage of a promotion chain: where the image stood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stage {
    pub repository: RepoName,
    pub tag: Tag,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}
