//! Where an approved image goes, and what speaks against it.

use wharf_oci::RepoName;

use super::PromoteError;
use super::gather::Gathered;
use crate::App;
use crate::access::{self, Action, Principal};
use crate::event::Stage;
use crate::promote::{Binding, Reason, lineage};

/// A target of an approved image.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// The target's name in the binding.
    pub(super) name: String,
    /// Where that is for this image; none where its template gives no name.
    pub(super) to: Option<Stage>,
    /// Why the image does not go there.
    pub(super) against: Option<Reason>,
    /// This revision of the tag went there before.
    pub(super) is_done: bool,
}

impl Aim {
    /// Where it is to go, unless it went there before or something speaks against it.
    pub(super) fn open(&self) -> Option<&Stage> {
        self.to.as_ref().filter(|_| self.against.is_none() && !self.is_done)
    }
}

/// The targets that the policies agreed on, with what speaks against each before it is tried.
pub(super) async fn all(
    app: &App,
    binding: &Binding,
    gathered: &Gathered,
    agreed: &[String],
) -> Result<Vec<Aim>, PromoteError> {
    let from = &gathered.stage;
    let mut aims = Vec::new();
    for rule in binding.targets.iter().filter(|rule| agreed.contains(&rule.name)) {
        let rendered = rule.repository.render(&from.repository).and_then(|repository| {
            Ok(Stage { repository, tag: rule.tag.render(&from.tag, gathered.at_ms)? })
        });
        let (to, against) = match rendered {
            Err(error) => (None, Some(Reason::new("target-template", error.to_string()))),
            Ok(to) => {
                let against = match lineage::extend(&gathered.row.lineage, from, &to) {
                    Err(error) => Some(Reason::new("lineage", error.to_string())),
                    Ok(_) => no_right(app, &binding.owner, &from.repository, &to.repository).await?,
                };
                (Some(to), against)
            }
        };
        aims.push(Aim { name: rule.name.clone(), to, against, is_done: false });
    }
    Ok(aims)
}

/// Why the binding's owner may not do it, by what is granted now.
pub(super) async fn no_right(
    app: &App,
    owner: &str,
    from: &RepoName,
    to: &RepoName,
) -> Result<Option<Reason>, PromoteError> {
    let who = Principal::user(owner);
    for (action, repository) in [(Action::Pull, from), (Action::Push, to)] {
        if !access::may(app, &who, action, repository).await? {
            let text = format!("the binding's owner `{owner}` may not {} `{repository}`", action.name());
            return Ok(Some(Reason::new("owner-not-allowed", text)));
        }
    }
    Ok(None)
}
