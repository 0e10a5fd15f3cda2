//! What a binding would do about what is in the registry now.

use serde::{Deserialize, Serialize};
use wharf_oci::{RepoName, Tag};

use super::ask::Call;
use super::{PromoteError, aim, ask, gather, settle};
use crate::App;
use crate::access::{self, Action, Principal, View};
use crate::promote::{Binding, Judged, Mode, Reason, Verdict};
use crate::registry::{self, list};

/// Tags that one dry run judges.
pub const TAGS_MAX: usize = 500;
/// Names of repositories and tags that one dry run looks at, judged or not.
pub const LOOKED_AT_MAX: usize = 10_000;
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
    /// Where the next run goes on: `REPOSITORY:TAG` of the last tag looked at, `REPOSITORY:`, or a place that only the server
    /// reads; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A binding, and what the one who asks may see of what it would do.
struct Trial<'a> {
    app: &'a App,
    binding: &'a Binding,
    view: &'a View<'a>,
    /// Tags judged.
    limit: usize,
}

/// Judges what the binding matches, without writing anything: at most `limit` (and [`TAGS_MAX`]) tags, behind `after`.
/// Repositories that `who` may not read are left out, and names are read only where the binding and the grants of `who` begin.
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
    let view = access::view(app, who).await?;
    let trial = Trial { app, binding, view: &view, limit: limit.clamp(1, TAGS_MAX) };
    let shows = |name: &RepoName| binding.repositories.matches(name) && view.may(Action::Pull, name);
    let mut run = DryRun::default();
    let mut left = LOOKED_AT_MAX;
    let mut last: Option<RepoName> = None;
    if let Some(after) = after {
        let Some((name, tag)) = place(app, after) else { return Ok(run) };
        if shows(&name) {
            run.next = trial.over(&name, tag, &mut left, &mut run.tags).await?;
        }
        last = Some(name);
    }
    let mut beginnings = view.beginnings(Action::Pull, binding.repositories.literal());
    if let Some(last) = last.as_ref().map(RepoName::as_str) {
        beginnings.retain(|beginning| beginning.as_str() > last || last.starts_with(beginning));
    }
    let mut beginnings = beginnings.into_iter();
    let mut beginning = beginnings.next();
    while let (None, Some(at)) = (&run.next, &beginning) {
        let names =
            list::repositories_from(&app.store, at, last.as_ref().map(RepoName::as_str), PAGE).await?;
        for name in names.names {
            if left == 0 {
                // The last one looked at may be nothing that who asks may see.
                let last = last.as_ref().map_or("", RepoName::as_str);
                run.next = Some(app.auth.seal.seal_place(&format!("{last}:"))?);
                return Ok(run);
            }
            left -= 1;
            if shows(&name) {
                run.next = trial.over(&name, None, &mut left, &mut run.tags).await?;
                if run.next.is_some() {
                    return Ok(run);
                }
            }
            last = Some(name);
        }
        if !names.more {
            beginning = beginnings.next();
        }
    }
    Ok(run)
}

/// Behind what a run goes on; none where the text is no place.
fn place(app: &App, text: &str) -> Option<(RepoName, Option<Tag>)> {
    let opened = app.auth.seal.open_place(text)?;
    let (name, tag) = opened.split_once(':')?;
    Some((name.parse().ok()?, tag.parse().ok()))
}

impl Trial<'_> {
    /// One repository's tags behind `after`. Returns where to go on once there are `limit`, or none are `left` to look at.
    async fn over(
        &self,
        name: &RepoName,
        mut after: Option<Tag>,
        left: &mut usize,
        found: &mut Vec<Would>,
    ) -> Result<Option<String>, PromoteError> {
        loop {
            let page = list::tags(&self.app.store, name, after.as_ref().map(Tag::as_str), PAGE).await?;
            let Some(page) = page else { return Ok(None) };
            for tag in page.names {
                let matches = self.binding.matches(name, &tag);
                if *left == 0 || (matches && found.len() >= self.limit) {
                    return Ok(Some(format!("{name}:{}", after.as_ref().map_or("", Tag::as_str))));
                }
                *left -= 1;
                if matches {
                    found.extend(self.one(name, &tag).await?);
                }
                after = Some(tag);
            }
            if !page.more {
                return Ok(None);
            }
        }
    }

    async fn one(&self, name: &RepoName, tag: &Tag) -> Result<Option<Would>, PromoteError> {
        let Trial { app, binding, view, .. } = *self;
        let Some(mut gathered) = gather::tag(app, name, tag).await? else { return Ok(None) };
        // Nothing is written, and what could not be is held as a judgement holds it.
        let mut pending = gathered.keep()?;
        let opinions = ask::binding(app, binding, &gathered, Call::Trial, &mut pending).await?;
        let mut reasons = opinions.composed.reasons;
        let mut to = Vec::new();
        for mut aim in aim::all(app, binding, &gathered, &opinions.composed.targets).await? {
            if let Some(to) = aim.open()
                && let Err(error) =
                    registry::tag::may_point(&app.store, &to.repository, &to.tag, gathered.digest()).await
            {
                // What is there now is for those who may read it.
                aim.against = Some(match view.may(Action::Pull, &to.repository) {
                    true => settle::refusal(error)?,
                    false => Reason::new(
                        "immutable",
                        format!("tag `{}` of `{}` is immutable", to.tag, to.repository),
                    ),
                });
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
}
