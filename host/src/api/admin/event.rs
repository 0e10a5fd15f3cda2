//! `/api/v1/events`: what happened.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use wharf_oci::RepoPattern;

use super::extract::Asked;
use super::{Failures, Paging};
use crate::App;
use crate::access::{self, Action, Answer, View};
use crate::api::{ApiError, Caller, Stopping};
use crate::event::{self, EventId, Kind, Recorded};

/// Longest that a request may wait for an event, in seconds.
const WAIT_S_MAX: u64 = 30;
/// Events that one request looks at: beyond it a filter that nothing passes hands back its place in the log.
const LOOKED_AT_MAX: usize = 10_000;

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventEntry {
    /// Orders events by commit.
    #[schema(example = "1204.0")]
    pub id: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who caused it.
    pub by: String,
    #[schema(example = "image-pushed")]
    pub kind: String,
    /// What it is about; the fields depend on the kind.
    #[serde(flatten)]
    pub about: Map<String, Value>,
}

/// Part of the log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    pub items: Vec<EventEntry>,
    /// Where to go on: the next request's `cursor`. With `order=oldest` it is there even at the log's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The newest event there is, whoever may see it: follow from here. With `order=newest` and no cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
}

/// From which end the log is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Order {
    #[default]
    Oldest,
    Newest,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Query {
    /// From which end to read; the cursor belongs to one order.
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// Only of this kind.
    #[param(example = "image-promoted")]
    kind: Option<String>,
    /// Only about repositories of this pattern, or of a promotion to one that the caller may see.
    #[param(example = "dev/*")]
    repository: Option<String>,
    /// With `order=oldest`: seconds to wait for an event where there is none yet, at most 30.
    #[serde(default)]
    wait_s: u64,
    // Not flattened from `Paging`: a flattened query knows no numbers.
    /// Items at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/events", get(ls))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(ls))]
pub(super) struct Doc;

/// Which events a request wants to see, and may.
struct Filter<'a> {
    view: View<'a>,
    kind: Option<String>,
    repositories: Option<RepoPattern>,
}

impl Filter<'_> {
    /// Events about no repository concern the whole server, which is its administrators' business.
    fn passes(&self, recorded: &Recorded) -> bool {
        let repository = recorded.event.kind.repository();
        let may = match repository {
            Some(repository) => self.view.may(Action::Pull, repository),
            None => self.view.judge_server() == Answer::Allowed,
        };
        may && self.repositories.as_ref().is_none_or(|pattern| self.concerns(pattern, &recorded.event.kind))
    }

    /// Whether it is about such a repository, or tells of a promotion to one. A target that the caller may not see is not
    /// found by its name.
    fn concerns(&self, pattern: &RepoPattern, kind: &Kind) -> bool {
        let target = kind.target().filter(|target| self.view.may(Action::Pull, target));
        kind.repository().into_iter().chain(target).any(|repository| pattern.matches(repository))
    }

    /// The event as it is shown; none where it is not.
    fn show(&self, recorded: &Recorded) -> Result<Option<EventEntry>, ApiError> {
        if !self.passes(recorded) {
            return Ok(None);
        }
        let value = serde_json::to_value(recorded).map_err(ApiError::internal)?;
        let mut entry: EventEntry = serde_json::from_value(value).map_err(ApiError::internal)?;
        // Stored with dashes.
        entry.about = entry.about.into_iter().map(|(name, value)| (name.replace('-', "_"), value)).collect();
        Ok(Some(entry).filter(|entry| self.kind.as_ref().is_none_or(|kind| *kind == entry.kind)))
    }
}

/// What happened, in the order of commits, as far as the caller may see it.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Query),
    responses((status = 200, body = EventPage), Failures))]
async fn ls(
    State(app): State<App>,
    caller: Caller,
    parts: Parts,
    Asked(query): Asked<Query>,
) -> Result<Json<EventPage>, ApiError> {
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit()?;
    let cursor: Option<EventId> = match paging.cursor() {
        Some(cursor) => Some(cursor.parse().map_err(|_| paging.wrong_cursor())?),
        None => None,
    };
    if query.wait_s > WAIT_S_MAX {
        return Err(ApiError::invalid(format!("`wait_s` is at most {WAIT_S_MAX}, not {}", query.wait_s)));
    }
    if let Some(kind) = query.kind.as_ref().filter(|kind| !event::Kind::is_known(kind)) {
        let kind: String = kind.chars().take(100).collect();
        let message =
            format!("there is no kind of event `{kind}`; hint: `wharf events --help` lists those there are");
        return Err(ApiError::invalid(message));
    }
    let repositories =
        query.repository.map(|pattern| pattern.parse().map_err(ApiError::invalid)).transpose()?;
    let filter =
        Filter { view: access::view(&app, &caller.principal).await?, kind: query.kind, repositories };
    let page = match query.order {
        Order::Oldest => {
            // A server that stops answers those who wait, instead of waiting for them.
            let stopping = parts.extensions.get::<Stopping>().map(|stopping| stopping.0.clone());
            let stopping = stopping.unwrap_or_default();
            let patience = Patience { longest: Duration::from_secs(query.wait_s), stopping };
            oldest(&app, &filter, cursor, limit, patience).await?
        }
        Order::Newest => newest(&app, &filter, cursor, limit).await?,
    };
    Ok(Json(page))
}

/// How long to wait for an event.
struct Patience {
    longest: Duration,
    stopping: CancellationToken,
}

async fn oldest(
    app: &App,
    filter: &Filter<'_>,
    mut cursor: Option<EventId>,
    limit: usize,
    Patience { longest, stopping }: Patience,
) -> Result<EventPage, ApiError> {
    let deadline = Instant::now() + longest;
    let (mut items, mut looked_at) = (Vec::new(), 0);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Once there is something to tell, nothing is waited for.
        let patience = if items.is_empty() { left } else { Duration::ZERO };
        let page = tokio::select! {
            page = event::wait(&app.store, cursor, event::PAGE_MAX, patience) => page?,
            () = stopping.cancelled() => event::after(&app.store, cursor, event::PAGE_MAX).await?,
        };
        looked_at += page.events.len();
        for recorded in &page.events {
            cursor = Some(recorded.id);
            items.extend(filter.show(recorded)?);
            if items.len() == limit {
                break;
            }
        }
        let waits = items.is_empty() && Instant::now() < deadline && !stopping.is_cancelled();
        if items.len() == limit || looked_at >= LOOKED_AT_MAX || !(page.more || waits) {
            return Ok(EventPage { items, next: cursor.map(|id| id.to_string()), latest: None });
        }
    }
}

async fn newest(
    app: &App,
    filter: &Filter<'_>,
    mut cursor: Option<EventId>,
    limit: usize,
) -> Result<EventPage, ApiError> {
    let first = cursor.is_none();
    let (mut items, mut looked_at, mut latest) = (Vec::new(), 0, None);
    loop {
        let page = event::before(&app.store, cursor, event::PAGE_MAX).await?;
        looked_at += page.events.len();
        let mut more = page.more;
        for (at, recorded) in page.events.iter().enumerate() {
            cursor = Some(recorded.id);
            latest = latest.or(first.then_some(recorded.id));
            items.extend(filter.show(recorded)?);
            if items.len() == limit {
                more |= at + 1 < page.events.len();
                break;
            }
        }
        if items.len() == limit || looked_at >= LOOKED_AT_MAX || !more {
            let next = cursor.filter(|_| more).map(|id| id.to_string());
            return Ok(EventPage { items, next, latest: latest.map(|id| id.to_string()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharf_store::{Model, Store};

    use super::*;
    use crate::access::Principal;
    use crate::config::Config;
    use crate::flow;

    /// `as-of-ms` stood beside `at_ms`.
    #[tokio::test]
    async fn an_event_has_underscores_in_its_names() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
        let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
        flow::account::first_start(&app).await.unwrap();
        let admin = Principal::user("admin");
        let view = access::view(&app, &admin).await.unwrap();
        let imported = serde_json::json!({
            "id": "1.0", "at_ms": 7, "by": "admin", "kind": "vulnerability-data-imported",
            "version": "sha256:00", "sources": ["own"], "advisories": 1, "as-of-ms": 5,
        });
        let imported: Recorded = serde_json::from_value(imported).unwrap();
        let shown = Filter { view, kind: None, repositories: None }.show(&imported).unwrap().unwrap();
        assert_eq!((shown.at_ms, shown.about["as_of_ms"].as_u64()), (7, Some(5)));
    }

    /// `--kind image-promoted --repository 'qa/**'`, the example of the help, found nothing.
    #[tokio::test]
    async fn a_promotion_is_found_by_where_it_led_by_whoever_may_see_that() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
        let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
        flow::account::first_start(&app).await.unwrap();
        let (admin, alice) = (Principal::user("admin"), Principal::user("alice"));
        flow::account::add_user(&app, &admin, &"alice".parse().unwrap(), None).await.unwrap();
        let grant = access::Grant {
            subject: "user:alice".parse().unwrap(),
            role: access::Role::Read,
            pattern: "dev/**".parse().unwrap(),
        };
        flow::grant::add(&app, &admin, &grant).await.unwrap();
        let promoted = serde_json::json!({
            "id": "1.0", "at_ms": 0, "by": "system", "kind": "image-promoted",
            "from": {"repository": "dev/app", "tag": "1"}, "to": {"repository": "qa/app", "tag": "1"},
            "digest": wharf_oci::Digest::sha256(b"image"), "lineage": [], "decision": 1,
        });
        let promoted: Recorded = serde_json::from_value(promoted).unwrap();
        let check = async |who: &Principal, pattern: Option<&str>, expected: bool| {
            let repositories = pattern.map(|pattern| pattern.parse().unwrap());
            let filter = Filter { view: access::view(&app, who).await.unwrap(), kind: None, repositories };
            assert_eq!(filter.passes(&promoted), expected, "{} {pattern:?}", who.name);
        };
        check(&admin, Some("dev/**"), true).await;
        check(&admin, Some("qa/**"), true).await;
        check(&admin, Some("prod/**"), false).await;
        check(&alice, None, true).await;
        check(&alice, Some("dev/**"), true).await;
        check(&alice, Some("qa/**"), false).await;
    }
}
