use wharf_oci::{Digest, ManifestError, RepoName, Tag, Target};
use wharf_store::{BlobError, StoreError};

use super::upload::UploadError;

/// Why the registry refused or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("repository `{0}` is not known")]
    RepoUnknown(RepoName),
    #[error("blob `{digest}` is not in repository `{repository}`")]
    BlobUnknown { repository: RepoName, digest: Digest },
    #[error("manifest `{target}` is not in repository `{repository}`")]
    ManifestUnknown { repository: RepoName, target: Target },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the manifest's bytes have digest `{actual}`, not `{expected}`")]
    ManifestDigest { expected: Digest, actual: Digest },
    #[error("the manifest needs {} that repository `{repository}` does not have: `{}`; hint: push them first", missing.len(), missing[0])]
    ManifestBlobUnknown {
        repository: RepoName,
        /// At least one.
        missing: Vec<Digest>,
    },
    #[error("the descriptor of `{digest}` says {declared} bytes, the blob has {actual}")]
    DescriptorSize { digest: Digest, declared: u64, actual: u64 },
    #[error("layer `{0}` is called a statement of in-toto and is none; hint: give it the type that it has")]
    NotAStatement(Digest),
    #[error("the manifest names {descriptors} blobs and manifests, more than the limit of {max}")]
    TooManyDescriptors { descriptors: usize, max: usize },
    #[error(
        "more than {max} manifests hang together with `{digest}`, counting its platforms and referrers; hint: delete those that are not needed"
    )]
    TooManyManifests { digest: Digest, max: usize },
    #[error(
        "tag `{tag}` of `{repository}` is immutable by pattern `{pattern}` and points to `{digest}`; hint: push another tag"
    )]
    TagImmutable { repository: RepoName, tag: Tag, pattern: String, digest: Digest },
    #[error("`{digest}` is needed by manifest `{by}` of `{repository}`; hint: delete that first")]
    InUse { repository: RepoName, digest: Digest, by: Digest },
    #[error(
        "namespace `{namespace}` uses {used} of {max} bytes, {asked} more do not fit; hint: delete images or raise the quota"
    )]
    Quota { namespace: String, used: u64, max: u64, asked: u64 },
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
