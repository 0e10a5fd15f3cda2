use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use wharf_oci::{Digest, Manifest, Reference, RepoName, Target};
use wharf_plugin::facts::{Component, Finding, ImageFacts, Knowledge};
use wharf_store::StoreError;

use super::ScanEntry;
use super::list::platforms;
use crate::App;
use crate::access::Action;
use crate::api::admin::extract::Asked;
use crate::api::admin::{Failures, Paging};
use crate::api::{ApiError, Caller, ErrorBody};
use crate::facts::document::{self, Kind};
use crate::facts::{Scanned, scanned};
use crate::flow::promote::explain;
use crate::registry::{manifest, row};

/// How many findings of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeverityCounts {
    pub critical: u64,
    pub high: u64,
    pub medium: u64,
    pub low: u64,
    pub negligible: u64,
    /// Those that their source does not rate; not "harmless".
    pub unknown: u64,
}

impl SeverityCounts {
    /// From the order of [`wharf_plugin::facts::Severity`].
    fn of([unknown, negligible, low, medium, high, critical]: [u64; 6]) -> Self {
        SeverityCounts { critical, high, medium, low, negligible, unknown }
    }

    fn worst(self, other: Self) -> Self {
        SeverityCounts {
            critical: self.critical.max(other.critical),
            high: self.high.max(other.high),
            medium: self.medium.max(other.medium),
            low: self.low.max(other.low),
            negligible: self.negligible.max(other.negligible),
            unknown: self.unknown.max(other.unknown),
        }
    }

    pub fn total(self) -> u64 {
        self.critical + self.high + self.medium + self.low + self.negligible + self.unknown
    }
}

/// What is known of a tag's image.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FactsEntry {
    /// As policies are told them, without the lists of packages and findings.
    #[schema(value_type = Object)]
    pub facts: ImageFacts,
    /// Of these lists, in the order of the facts' platforms.
    pub counts: Vec<PlatformCounts>,
}

/// How much is in one platform's image.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlatformCounts {
    pub packages: usize,
    pub findings: SeverityCounts,
    /// Why either is not all that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One finding of a platform's image.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindingEntry {
    /// The platform's manifest.
    pub platform: String,
    #[schema(example = "CVE-2024-0001")]
    pub id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    pub source: String,
    /// `unknown` where the source does not rate it.
    #[schema(example = "high")]
    pub severity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cvss: Option<f32>,
    /// The package that has it.
    pub component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `fixed`, `not-fixed`, `wont-fix` …
    pub fix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_in: Option<String>,
    /// In CISA's list of exploited vulnerabilities.
    pub known_exploited: bool,
    /// Whether this version has it is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub possible_only: bool,
    /// The layer that brought the package, 0 for the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
}

/// One page of an image's findings, with how far they can be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FindingsPage {
    /// An empty list says "none" only where both `state` and `matched` are `complete`.
    pub scan: ScanEntry,
    pub items: Vec<FindingEntry>,
    /// The next page's `cursor`; absent on the last one. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Image {
    /// `repository:tag`, or `repository@digest`.
    #[param(example = "dev/app:1.4")]
    image: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FindingsQuery {
    /// `repository:tag`, or `repository@digest`.
    #[param(example = "dev/app:1.4")]
    image: String,
    /// Findings at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// What the scans of an image's platforms say together.
pub(super) fn summary(scans: &[Scanned]) -> ScanEntry {
    let each = || scans.iter();
    let least = |of: fn(&Scanned) -> Knowledge| {
        each().map(of).reduce(Knowledge::least).unwrap_or_default().as_str().to_owned()
    };
    ScanEntry {
        state: least(|scan| scan.scan),
        matched: least(|scan| scan.matched),
        why: each().find_map(|scan| scan.why.clone()),
        packages: each().map(|scan| scan.packages).max().unwrap_or_default(),
        findings: each()
            .map(|scan| SeverityCounts::of(scan.counts))
            .fold(SeverityCounts::default(), SeverityCounts::worst),
        data_as_of_ms: each().flat_map(|scan| &scan.coverage).map(|coverage| coverage.as_of_ms).min(),
    }
}

/// What is known of each of these platforms of a repository.
pub(super) async fn known(
    app: &App,
    repository: &RepoName,
    platforms: &[Digest],
) -> Result<Vec<Scanned>, StoreError> {
    let mut known = Vec::with_capacity(platforms.len());
    let rows = platforms.iter().map(|digest| row::manifest(repository, digest)).collect();
    let here = app.store.get_many(rows).await?;
    let found = scanned::find_many(&app.store, platforms).await?;
    for ((digest, scanned), here) in platforms.iter().zip(found).zip(here) {
        // What another repository holds is not for whoever reads this one.
        known.push(match scanned.filter(|_| here.is_some()) {
            Some(scanned) => scanned,
            None => Scanned::not_yet(manifest::parsed(&app.store, repository, digest).await?.as_ref()),
        });
    }
    Ok(known)
}

/// The image's platforms, once the caller may pull it.
async fn scans(app: &App, caller: &Caller, image: &str) -> Result<Vec<(Digest, Scanned)>, ApiError> {
    let image: Reference = image.parse().map_err(ApiError::invalid)?;
    caller.require(app, Action::Pull, &image.repository).await?;
    let found = manifest::read(&app.store, &image.repository, &image.target).await?;
    let (found, bytes) = found.ok_or_else(|| unknown(&image))?;
    let manifest = Manifest::parse(&bytes, Some(&found.row.media_type)).map_err(ApiError::internal)?;
    let (digests, _) = platforms(app, &image.repository, &found.digest, &manifest).await?;
    let scans = known(app, &image.repository, &digests).await?;
    Ok(digests.into_iter().zip(scans).collect())
}

fn unknown(image: &Reference) -> ApiError {
    let repository = &image.repository;
    ApiError::not_found(format!(
        "there is no image `{image}`; hint: `wharf image ls {repository}` shows those there are"
    ))
}

/// Everything that a policy would be told of a tag's image now, but for the lists of packages and findings, which are
/// counted.
#[utoipa::path(get, path = "/api/v1/images/facts", tag = "images", params(Image),
    responses((status = 200, body = FactsEntry), (status = 404, body = ErrorBody), Failures))]
pub(super) async fn facts(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<Image>,
) -> Result<Json<FactsEntry>, ApiError> {
    let image: Reference = query.image.parse().map_err(ApiError::invalid)?;
    caller.require(&app, Action::Pull, &image.repository).await?;
    let Target::Tag(tag) = &image.target else {
        return Err(ApiError::invalid("facts are of a tag; hint: `repository:tag`"));
    };
    let mut facts = explain::facts(&app, &image.repository, tag).await?;
    let digests = facts.platforms.iter().map(|platform| platform.digest.parse());
    let digests = digests.collect::<Result<Vec<Digest>, _>>().map_err(ApiError::internal)?;
    let scans = known(&app, &image.repository, &digests).await?;
    let mut counts = Vec::with_capacity(facts.platforms.len());
    for (platform, scan) in facts.platforms.iter_mut().zip(scans) {
        let packages = std::mem::take(&mut platform.components).len();
        let mut findings = [0; 6];
        for finding in std::mem::take(&mut platform.findings) {
            findings[finding.severity as usize] += 1;
        }
        counts.push(PlatformCounts { packages, findings: SeverityCounts::of(findings), why: scan.why });
    }
    Ok(Json(FactsEntry { facts, counts }))
}

/// The bills of materials of an image's platforms, by manifest digest, as CycloneDX 1.6.
#[utoipa::path(get, path = "/api/v1/images/bom", tag = "images", params(Image),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody), Failures))]
pub(super) async fn bom(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<Image>,
) -> Result<Json<Value>, ApiError> {
    let mut all = serde_json::Map::new();
    for (digest, scan) in scans(&app, &caller, &query.image).await? {
        let Some(bom) = scan.bom else { continue };
        let report: wharf_scan::Report = document::read_json(&app.store, Kind::Bom, &bom).await?;
        all.insert(digest.to_string(), wharf_scan::cyclonedx(&report, None));
    }
    if all.is_empty() {
        let message = format!(
            "`{}` has no bill of materials; hint: `wharf image ls` shows how far its scan is",
            query.image
        );
        return Err(ApiError::not_found(message));
    }
    Ok(Json(Value::Object(all)))
}

/// Findings of an image, platform by platform, the worst first, and how far they can be trusted: an empty list may mean that
/// there is no data.
#[utoipa::path(get, path = "/api/v1/images/findings", tag = "images", params(FindingsQuery),
    responses((status = 200, body = FindingsPage), (status = 404, body = ErrorBody), Failures))]
pub(super) async fn findings(
    State(app): State<App>,
    caller: Caller,
    Asked(query): Asked<FindingsQuery>,
) -> Result<Json<FindingsPage>, ApiError> {
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let from: usize = match paging.cursor() {
        Some(cursor) => cursor.parse().map_err(|_| paging.wrong_cursor())?,
        None => 0,
    };
    let (digests, scans): (Vec<Digest>, Vec<Scanned>) =
        scans(&app, &caller, &query.image).await?.into_iter().unzip();
    let scan = summary(&scans);
    let mut all = Vec::new();
    for (digest, scan) in digests.iter().zip(scans) {
        let Scanned { components: Some(components), findings: Some(findings), .. } = scan else { continue };
        let components: Vec<Component> =
            document::read_json(&app.store, Kind::Components, &components).await?;
        let mut findings: Vec<Finding> = document::read_json(&app.store, Kind::Findings, &findings).await?;
        findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.cvss_tenths)));
        all.extend(findings.into_iter().map(|finding| entry(digest, finding, &components)));
    }
    let more = all.len().saturating_sub(from) > limit;
    let items: Vec<FindingEntry> = all.into_iter().skip(from).take(limit).collect();
    let next = more.then(|| (from + items.len()).to_string());
    Ok(Json(FindingsPage { scan, items, next }))
}

fn entry(platform: &Digest, finding: Finding, components: &[Component]) -> FindingEntry {
    let component = usize::try_from(finding.component).ok().and_then(|at| components.get(at));
    FindingEntry {
        platform: platform.to_string(),
        severity: word(&finding.severity),
        fix: word(&finding.fix),
        id: finding.id,
        aliases: finding.aliases,
        source: finding.source,
        cvss: finding.cvss_tenths.map(|tenths| f32::from(tenths) / 10.0),
        component: component.map(|component| component.name.clone()).unwrap_or_default(),
        version: component.and_then(|component| component.version.clone()),
        fixed_in: finding.fixed_in,
        known_exploited: finding.known_exploited,
        possible_only: finding.possible_only,
        layer: component.and_then(|component| component.layer),
    }
}

/// The name of an enum's case, as it is written everywhere.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
