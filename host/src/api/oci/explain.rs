//! What the registry's errors are called in this API.

use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;
use wharf_oci::{ManifestError, ParseError};
use wharf_store::{BlobError, StoreError};

use super::error::{Code, OciError};
use crate::api::Refusal;
use crate::registry::RegistryError;
use crate::registry::upload::UploadError;

impl From<RegistryError> for OciError {
    fn from(error: RegistryError) -> OciError {
        let message = error.to_string();
        let code = match error {
            RegistryError::RepoUnknown(_) => Code::NameUnknown,
            RegistryError::BlobUnknown { digest, .. } => {
                return OciError::new(Code::BlobUnknown, message).detail(json!({ "digest": digest }));
            }
            RegistryError::ManifestUnknown { .. } => Code::ManifestUnknown,
            RegistryError::Manifest(ManifestError::TooLarge { .. }) => Code::ManifestTooLarge,
            RegistryError::Manifest(_) | RegistryError::TooManyDescriptors { .. } => Code::ManifestInvalid,
            RegistryError::ManifestDigest { expected, actual } => {
                let detail = json!({ "expected": expected, "actual": actual });
                return OciError::new(Code::DigestInvalid, message).detail(detail);
            }
            RegistryError::ManifestBlobUnknown { missing, .. } => {
                let shown: Vec<_> = missing.into_iter().take(MISSING_SHOWN_MAX).collect();
                let detail = json!({ "digests": shown });
                return OciError::new(Code::ManifestBlobUnknown, message).detail(detail);
            }
            RegistryError::DescriptorSize { .. } | RegistryError::NotAStatement(_) => Code::ManifestInvalid,
            RegistryError::TooManyManifests { .. } | RegistryError::TagImmutable { .. } => Code::Denied,
            RegistryError::InUse { by, .. } => {
                return OciError::new(Code::InUse, message).detail(json!({ "manifest": by }));
            }
            RegistryError::Quota { namespace, used, max, asked } => {
                let detail = json!({ "namespace": namespace, "used": used, "max": max, "asked": asked });
                return OciError::new(Code::Denied, message).detail(detail);
            }
            RegistryError::Upload(error) => return error.into(),
            RegistryError::Blob(error) => return error.into(),
            RegistryError::Store(error) => return error.into(),
        };
        OciError::new(code, message)
    }
}

/// Digests listed in one error.
const MISSING_SHOWN_MAX: usize = 32;

impl From<UploadError> for OciError {
    fn from(error: UploadError) -> OciError {
        let message = error.to_string();
        match error {
            UploadError::Unknown(_) => OciError::new(Code::BlobUploadUnknown, message),
            UploadError::InUse => OciError::new(Code::UploadInUse, message),
            UploadError::TooMany { .. } => OciError::new(Code::TooManyRequests, message),
            UploadError::OutOfOrder { .. } => OciError::new(Code::ChunkOutOfOrder, message),
            UploadError::Length { .. } | UploadError::Body(_) => OciError::new(Code::SizeInvalid, message),
            UploadError::TooLarge => OciError::new(Code::BlobTooLarge, message),
            UploadError::Digest { expected, actual } => {
                let detail = json!({ "expected": expected, "actual": actual });
                OciError::new(Code::DigestInvalid, message).detail(detail)
            }
            UploadError::Blob(error) => error.into(),
        }
    }
}

impl From<BlobError> for OciError {
    fn from(error: BlobError) -> OciError {
        match error {
            BlobError::Full { .. } => OciError::new(Code::InsufficientStorage, "the server's disk is full"),
            error => {
                tracing::error!(%error, "a blob file cannot be used");
                OciError::new(Code::Internal, "the server's disk failed; its log says more")
            }
        }
    }
}

impl From<StoreError> for OciError {
    fn from(error: StoreError) -> OciError {
        match error {
            StoreError::Conflict(_) => OciError::new(
                Code::TooManyRequests,
                "others keep changing the same repository; hint: try again",
            ),
            StoreError::Busy => OciError::new(Code::TooManyRequests, "the server is busy; hint: try again"),
            StoreError::TooLarge => OciError::new(Code::ManifestInvalid, "this is too much for one request"),
            StoreError::Full => OciError::new(Code::InsufficientStorage, "the server's disk is full"),
            StoreError::Down | StoreError::Unknown => {
                tracing::error!(%error, "the store does not answer");
                OciError::new(Code::Unavailable, "the server cannot answer now; hint: try again")
            }
            StoreError::Bound { .. } | StoreError::Damaged { .. } | StoreError::Encode(_) => {
                tracing::error!(%error, "the store holds what it should not");
                OciError::new(Code::Internal, "the server is at fault; its log says more")
            }
        }
    }
}

impl From<Refusal> for OciError {
    fn from(refusal: Refusal) -> OciError {
        match refusal {
            Refusal::Unauthenticated { challenge, message } => {
                OciError::new(Code::Unauthorized, message).with(WWW_AUTHENTICATE, challenge)
            }
            Refusal::Denied { message } => OciError::new(Code::Denied, message),
            Refusal::Throttled { retry_s } => {
                OciError::new(Code::TooManyRequests, "too many failed logins; hint: wait, then try again")
                    .with(RETRY_AFTER, HeaderValue::from(retry_s))
            }
            Refusal::Busy => OciError::new(Code::Unavailable, "the server is busy; hint: try again"),
            Refusal::Store(error) => error.into(),
            Refusal::Internal => OciError::new(Code::Internal, "the server is at fault; its log says more"),
        }
    }
}

/// A digest or an algorithm in a query.
impl From<ParseError> for OciError {
    fn from(error: ParseError) -> OciError {
        let code = if error.what() == "repository name" { Code::NameInvalid } else { Code::DigestInvalid };
        OciError::new(code, error.to_string())
    }
}
