//! end-8, end-12 and `_catalog`: lists, page by page.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use serde::Serialize;
use wharf_oci::{Descriptor, Digest, MediaType, RepoName, Tag};

use super::error::{Code, OciError};
use super::query::encode;
use super::{Call, header_value};
use crate::access::{self, Action};
use crate::api::walk::Walk;
use crate::registry::{RegistryError, list, referrer};

/// Entries of a page of referrers.
const REFERRERS_MAX: usize = 1000;
/// Which filters the server has applied.
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a RepoName,
    tags: &'a [Tag],
}

pub(super) async fn tags(call: &Call<'_>, name: &RepoName) -> Result<Response, OciError> {
    call.require(Action::Pull, name).await?;
    let n = call.query.n(list::PAGE_MAX)?;
    let page = list::tags(&call.app.store, name, call.query.get("last"), n).await?;
    let page = page.ok_or_else(|| RegistryError::RepoUnknown(name.clone()))?;
    let next = page.names.last().filter(|_| page.more);
    let next = next.map(|last| format!("/v2/{name}/tags/list?n={n}&last={}", encode(last.as_str())));
    json("application/json", &TagList { name, tags: &page.names }, next.as_deref())
}

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<RepoName>,
}

/// Repositories that the caller may see, and no word of others.
pub(super) async fn catalog(call: &Call<'_>) -> Result<Response, OciError> {
    call.caller.require_catalog()?;
    let n = call.query.n(list::PAGE_MAX)?;
    let view = access::view(call.app, &call.caller.principal).await?;
    let walk = Walk::new(call.app, &view, Action::List, None, call.query.get("last"));
    let wrong = || OciError::new(Code::QueryInvalid, "`last` is no name, nor what a page gave for it");
    let (repositories, next) = walk.ok_or_else(wrong)?.page(n).await?;
    let next = next.map(|last| format!("/v2/_catalog?n={n}&last={}", encode(&last)));
    json("application/json", &Catalog { repositories }, next.as_deref())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [Descriptor],
}

pub(super) async fn referrers(
    call: &Call<'_>,
    name: &RepoName,
    subject: &Digest,
) -> Result<Response, OciError> {
    call.require(Action::Pull, name).await?;
    let n = call.query.n(REFERRERS_MAX)?.max(1);
    let invalid = |e: wharf_oci::ParseError| OciError::new(Code::QueryInvalid, e.to_string());
    let wanted = call.query.get("artifactType").filter(|text| !text.is_empty());
    let wanted: Option<MediaType> = wanted.map(str::parse).transpose().map_err(invalid)?;
    let last: Option<Digest> = call.query.get("last").map(str::parse).transpose().map_err(invalid)?;
    let page = referrer::list(&call.app.store, name, subject, wanted.as_ref(), last.as_ref(), n).await?;
    let next = page.next.map(|last| {
        let filter = wanted.as_ref().map(|wanted| format!("&artifactType={}", encode(wanted.as_str())));
        format!("/v2/{name}/referrers/{subject}?n={n}&last={last}{}", filter.unwrap_or_default())
    });
    let index = Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests: &page.descriptors };
    let mut response = json(MediaType::OCI_INDEX, &index, next.as_deref())?;
    if wanted.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

/// A page, and where the next one is (RFC 8288).
fn json<T: Serialize>(
    content_type: &'static str,
    value: &T,
    next: Option<&str>,
) -> Result<Response, OciError> {
    let body = serde_json::to_vec(value).map_err(|e| OciError::new(Code::Internal, e.to_string()))?;
    let mut response = (StatusCode::OK, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(next) = next {
        response.headers_mut().insert(LINK, header_value(&format!("<{next}>; rel=\"next\""))?);
    }
    Ok(response)
}
