//! What a binding would do about what is in the registry now.

use serde::{Deserialize, Serialize};
use wharf_oci::{RepoName, Tag};

use super::ask::Call;
use super::{PromoteError, aim, ask, gather, settle};
use crate::App;
use crate::access::{self, Action, Principal};
use crate::facts::Pending;
use crate::promote::{Binding, Judged, Mode, Reason, Verdict};
use crate::registry::{self, list};

/// Tags that one dry run judges.
pub const TAGS_MAX: usize = 500;
/// Names that are read at once.
const PAGE: usize = 200;

/// What it would do about one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Would {
    #[schema(value_type = String)]
    pub repository: RepoName,
    #[schema(value_type = String)]
    pub tag: Tag,
    pub digest: String,
    pub verdict: Verdict,
    /// Where it would go.
    pub to: Vec<String>,
    pub reasons: Vec<Reason>,
    pub policies: Vec<Judged>,
}

/// What a dry run found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DryRun {
    pub tags: Vec<Would>,
    /// Where the next run goes on, `REPOSITORY:TAG` of the last tag looked at, or `REPOSITORY:`; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Judges what the binding matches, without writing anything: at most `limit` (and [`TAGS_MAX`]) tags, behind `after`.
/// Repositories that `who` may not read are left out.
///
/// # Errors
/// Where something of the server's own failed.
pub async fn dry_run(
    app: &App,
    who: &Principal,
    binding: &Binding,
    after: Option<&str>,
    limit: usize,
) -> Result<DryRun, PromoteError> {
    // A binding that is off would do nothing at all; what is asked is what it would do.
    let binding = &Binding { mode: Mode::Shadow, ..binding.clone() };
    let limit = limit.clamp(1, TAGS_MAX);
    let view = access::view(app, who).await?;
    let mut run = DryRun::default();
    let mut last: Option<RepoName> = None;
    if let Some((name, tag)) = after.and_then(|after| after.split_once(':')) {
        let Ok(name) = name.parse::<RepoName>() else { return Ok(run) };
        if view.may(Action::Pull, &name) {
            run.next = over(app, binding, &name, tag.parse().ok(), limit, &mut run.tags).await?;
        }
        last = Some(name);
    }
    while run.next.is_none() {
        let names = list::repositories(&app.store, last.as_ref().map(RepoName::as_str), PAGE).await?;
        for name in &names.names {
            last = Some(name.clone());
            if binding.repositories.matches(name) && view.may(Action::Pull, name) {
                run.next = over(app, binding, name, None, limit, &mut run.tags).await?;
                if run.next.is_some() {
                    return Ok(run);
                }
            }
        }
        if !names.more {
            break;
        }
    }
    Ok(run)
}

/// One repository's tags behind `after`. Returns where to go on once there are `limit`.
async fn over(
    app: &App,
    binding: &Binding,
    name: &RepoName,
    mut after: Option<Tag>,
    limit: usize,
    found: &mut Vec<Would>,
) -> Result<Option<String>, PromoteError> {
    loop {
        let page = list::tags(&app.store, name, after.as_ref().map(Tag::as_str), PAGE).await?;
        let Some(page) = page else { return Ok(None) };
        for tag in page.names {
            if binding.matches(name, &tag) {
                if found.len() >= limit {
                    return Ok(Some(format!("{name}:{}", after.as_ref().map_or("", Tag::as_str))));
                }
                found.extend(one(app, binding, name, &tag).await?);
            }
            after = Some(tag);
        }
        if !page.more {
            return Ok(None);
        }
    }
}

async fn one(
    app: &App,
    binding: &Binding,
    name: &RepoName,
    tag: &Tag,
) -> Result<Option<Would>, PromoteError> {
    let Some(gathered) = gather::tag(app, name, tag).await? else { return Ok(None) };
    let opinions = ask::binding(app, binding, &gathered.facts, Call::Trial, &mut Pending::default()).await?;
    let mut reasons = opinions.composed.reasons;
    let mut to = Vec::new();
    for mut aim in aim::all(app, binding, &gathered, &opinions.composed.targets).await? {
        if let Some(to) = aim.open()
            && let Err(error) =
                registry::tag::may_point(&app.store, &to.repository, &to.tag, gathered.digest()).await
        {
            aim.against = Some(settle::refusal(error)?);
        }
        to.extend(aim.open().map(ToString::to_string));
        reasons.extend(aim.against);
    }
    Ok(Some(Would {
        repository: name.clone(),
        tag: tag.clone(),
        digest: gathered.digest().to_string(),
        verdict: opinions.composed.verdict,
        to,
        reasons,
        policies: opinions.judged,
    }))
}
