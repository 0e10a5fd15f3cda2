//! The REST API under `/api/v1`, one file a noun: what `wharf` itself uses, and any script may.
//!
//! Entry: [`routes`]; [`openapi`] describes them.
//!
//! Invariant: nobody without a name gets past [`extract::admit`], and each handler asks whether the caller may before it
//! looks at what the request says.
//! Invariant: every list that can grow is paged, those of the store by key: a page costs what it holds, wherever it is.
//! Invariant: whatever a client sends is answered by a 4xx with a code, a message and, where it is known, a hint.
//! Invariant: names that may hold a slash (repositories, images, jobs) are in the query or the body, never in the path,
//! so that no proxy can misread them.

mod binding;
mod database;
mod decision;
mod event;
mod extract;
mod grant;
mod image;
mod job;
mod page;
mod plugin;
mod query;
mod refusal;
mod repository;
mod status;
mod token;
mod user;

use axum::{Router, middleware};
use utoipa::OpenApi as _;

use crate::App;

pub use binding::{BindingEntry, NewBinding, NewDryRun, Portion};
pub use database::{DatabaseEntry, ImportEntry, SourceEntry};
pub use decision::{ExplainedEntry, ExplainedStanding, ExplainedTag, NewPromotion, PromotionEntry, TagName};
pub use event::{EventEntry, EventPage};
pub(super) use extract::BODY_BYTES_MAX;
pub(crate) use extract::json_words;
pub use grant::{GrantEntry, GrantText};
pub use image::{
    FactsEntry, FindingEntry, FindingsPage, ImageEntry, PlatformCounts, ScanEntry, SeverityCounts,
    StandingEntry,
};
pub use job::{JobEntry, JobName};
pub use page::{Page, Paging};
pub use plugin::{ActivePlugin, PluginEntry, PluginLimits, PluginList, RefusedFile};
pub use refusal::RefusalEntry;
pub use repository::{NewQuota, NewSetting, QuotaEntry, RepositoryEntry, SettingEntry};
pub use status::{COUNTED_MAX, DiskStatus, QueueStatus, Status, StatusCaller};
pub use token::{MadeToken, NewTokenRequest, TokenEntry};
pub use user::{NewPassword, NewUser, Suspension, UserEntry};

/// Every route of the REST API.
pub(super) fn routes(app: App) -> Router<App> {
    let nouns = Router::new()
        .merge(status::routes())
        .merge(user::routes())
        .merge(token::routes())
        .merge(grant::routes())
        .merge(refusal::routes())
        .merge(event::routes())
        .merge(job::routes())
        .merge(repository::routes())
        .merge(binding::routes())
        .merge(database::routes())
        .merge(decision::routes())
        .merge(image::routes())
        .merge(plugin::routes());
    let nouns = nouns.method_not_allowed_fallback(not_allowed);
    Router::new().nest("/api/v1", nouns.route_layer(middleware::from_fn_with_state(app, extract::admit)))
}

/// There is such a path, but not for this method; axum adds `Allow`.
async fn not_allowed(method: http::Method) -> super::ApiError {
    let message = format!("`{method}` does nothing here");
    super::ApiError::new(http::StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}

/// The errors of every endpoint.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "a description of answers; nothing makes one")]
enum Failures {
    /// What was sent is wrong.
    #[response(status = 400)]
    Invalid(#[to_schema] super::ErrorBody),
    /// No credentials, or wrong ones.
    #[response(status = 401)]
    Unauthenticated(#[to_schema] super::ErrorBody),
    /// Not allowed.
    #[response(status = 403)]
    Denied(#[to_schema] super::ErrorBody),
    /// Too many failed logins: try again when `Retry-After` says.
    #[response(status = 429)]
    Throttled(#[to_schema] super::ErrorBody),
    /// Busy, or the store does not answer: try again.
    #[response(status = 503)]
    Unavailable(#[to_schema] super::ErrorBody),
}

/// The errors of every endpoint that takes JSON.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "a description of answers; nothing makes one")]
enum Unread {
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(#[to_schema] super::ErrorBody),
    /// The body is not said to be JSON.
    #[response(status = 415)]
    NotJson(#[to_schema] super::ErrorBody),
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Wharf",
        description = "The REST API of a Wharf server. Log in with HTTP Basic (user and password, or an access token in \
                       the password's place) or with an access token as a bearer. Lists are paged: `limit` items, and \
                       `next` is the `cursor` of the page that follows. A query parameter that an operation does not \
                       have is refused, and so is a field that its body does not have. Decisions, the questions that led to \
                       them, and what the policies of a dry run say are evidence as it is stored, verbatim: its names \
                       have dashes, as those of the plugin interface."
    ),
    components(schemas(super::ErrorBody)),
    modifiers(&Logins)
)]
struct Root;

/// The ways to log in.
struct Logins;

impl utoipa::Modify for Logins {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [("basic", HttpAuthScheme::Basic), ("bearer", HttpAuthScheme::Bearer)] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
        let either = ["basic", "bearer"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        document.security = Some(either.to_vec());
    }
}

/// The description of every endpoint, as `docs/openapi.json` holds it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Root::openapi();
    for noun in [
        status::Doc::openapi(),
        user::Doc::openapi(),
        token::Doc::openapi(),
        grant::Doc::openapi(),
        refusal::Doc::openapi(),
        event::Doc::openapi(),
        job::Doc::openapi(),
        repository::Doc::openapi(),
        plugin::Doc::openapi(),
        image::Doc::openapi(),
        decision::Doc::openapi(),
        database::Doc::openapi(),
        binding::Doc::openapi(),
    ] {
        document.merge(noun);
    }
    document
}

#[cfg(test)]
mod tests;
