//! Which endpoint a path below `/v2/` names.

use wharf_oci::{Digest, ParseError, RepoName, Target};
use wharf_store::BlobId;

use super::error::{Code, OciError};
use crate::registry::upload;

/// Longest path that is looked at, in bytes: a name of 255, `/blobs/`, a sha512 digest, percent-encoded.
const PATH_BYTES_MAX: usize = 1024;

/// A parsed path; the numbers are those of the distribution specification, "Endpoints".
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// end-1.
    Base,
    /// `_catalog`, Docker's extension.
    Catalog,
    /// end-2, end-10.
    Blob(RepoName, Digest),
    /// end-3, end-7, end-9.
    Manifest(RepoName, Target),
    /// end-4, end-11.
    Uploads(RepoName),
    /// end-5, end-6, end-13, end-14.
    Upload(RepoName, BlobId),
    /// end-8.
    Tags(RepoName),
    /// end-12.
    Referrers(RepoName, Digest),
}

impl Endpoint {
    /// Reads a path such as `/v2/dev/app/manifests/1.4`, from its end: a name may itself hold `blobs` or `tags`.
    pub(super) fn parse(path: &str) -> Result<Endpoint, OciError> {
        let unknown = || OciError::new(Code::PageUnknown, "this path is not part of the distribution API");
        let path = path.strip_prefix("/v2").ok_or_else(unknown)?;
        if path.len() > PATH_BYTES_MAX {
            return Err(OciError::new(Code::NameInvalid, "the path is longer than 1,024 bytes"));
        }
        let path = decode(path).ok_or_else(unknown)?;
        if matches!(path.as_str(), "" | "/") {
            return Ok(Endpoint::Base);
        }
        let path = path.strip_prefix('/').ok_or_else(unknown)?;
        if path == "_catalog" {
            return Ok(Endpoint::Catalog);
        }
        let (head, last) = path.rsplit_once('/').ok_or_else(unknown)?;
        let (name, noun) = head.rsplit_once('/').ok_or_else(unknown)?;
        match (noun, last) {
            ("manifests", target) => Ok(Endpoint::Manifest(repo(name)?, target.parse().map_err(invalid)?)),
            ("referrers", digest) => Ok(Endpoint::Referrers(repo(name)?, digest.parse().map_err(invalid)?)),
            ("tags", "list") => Ok(Endpoint::Tags(repo(name)?)),
            ("blobs", "uploads") => Ok(Endpoint::Uploads(repo(name)?)),
            ("blobs", digest) => Ok(Endpoint::Blob(repo(name)?, digest.parse().map_err(invalid)?)),
            ("uploads", id) => {
                let name = name.strip_suffix("/blobs").ok_or_else(unknown)?;
                match id {
                    "" => Ok(Endpoint::Uploads(repo(name)?)),
                    id => Ok(Endpoint::Upload(repo(name)?, upload::parse(id).ok_or_else(no_upload)?)),
                }
            }
            _ => Err(unknown()),
        }
    }
}

fn repo(name: &str) -> Result<RepoName, OciError> {
    name.parse().map_err(|e: ParseError| OciError::new(Code::NameInvalid, e.to_string()))
}

fn no_upload() -> OciError {
    OciError::new(Code::BlobUploadUnknown, "no upload of this id is known")
}

/// A tag or digest that is not one.
fn invalid(error: ParseError) -> OciError {
    let code = if error.what() == "tag" { Code::ManifestInvalid } else { Code::DigestInvalid };
    OciError::new(code, error.to_string())
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` where it is broken or not UTF-8.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(path: &str) -> Endpoint {
        Endpoint::parse(path).unwrap()
    }

    #[test]
    fn endpoints() {
        let digest = Digest::sha256(b"x");
        assert_eq!(parse("/v2/"), Endpoint::Base);
        assert_eq!(parse("/v2"), Endpoint::Base);
        assert_eq!(parse("/v2/_catalog"), Endpoint::Catalog);
        assert_eq!(
            parse("/v2/dev/app/manifests/1.4"),
            Endpoint::Manifest("dev/app".parse().unwrap(), "1.4".parse().unwrap())
        );
        assert_eq!(
            parse(&format!("/v2/a/blobs/{}", digest.as_str().replace(':', "%3A"))),
            Endpoint::Blob("a".parse().unwrap(), digest)
        );
        assert_eq!(parse("/v2/a/b/blobs/uploads/"), Endpoint::Uploads("a/b".parse().unwrap()));
        assert_eq!(parse("/v2/a/b/blobs/uploads"), Endpoint::Uploads("a/b".parse().unwrap()));
        assert_eq!(parse("/v2/tags/list/tags/list"), Endpoint::Tags("tags/list".parse().unwrap()));
    }

    #[test]
    fn a_name_may_hold_the_api_s_own_words() {
        assert_eq!(
            parse("/v2/a/blobs/uploads/manifests/latest"),
            Endpoint::Manifest("a/blobs/uploads".parse().unwrap(), "latest".parse().unwrap())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let code = |path| Endpoint::parse(path).unwrap_err().code();
        assert_eq!(code("/v2/A/tags/list"), Code::NameInvalid);
        assert_eq!(code("/v2/a/manifests/sha256:baddigeststring"), Code::DigestInvalid);
        assert_eq!(code("/v2/a/manifests/-x"), Code::ManifestInvalid);
        assert_eq!(code("/v2/a/blobs/uploads/no-such"), Code::BlobUploadUnknown);
        assert_eq!(code("/v2/a"), Code::PageUnknown);
        assert_eq!(code(&format!("/v2/{}/tags/list", "a".repeat(2000))), Code::NameInvalid);
    }

    proptest! {
        #[test]
        fn any_path_is_an_endpoint_or_an_error(path in "/v2(/(\\PC{0,9}|blobs|uploads|manifests|%[0-9a-f]{0,2})){0,6}") {
            let _ = Endpoint::parse(&path);
        }
    }
}
