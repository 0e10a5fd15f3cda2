//! Many judgements as one job: a binding, a plugin or what is known of an image changed; an age rule is due; many tags are
//! gone.

use wharf_oci::{RepoName, Tag};
use wharf_store::{Key, Space, StoreError, key};

use super::judge::{self, Summary};
use super::{PromoteError, stage};
use crate::App;
use crate::event::EventId;
use crate::jobs::{self, Work};
use crate::promote::binding::{self, Bound};
use crate::promote::standing::{self, Place, Places};
use crate::registry::list;

/// Places that are read at once.
const PAGE: usize = 100;

/// Where a mass judgement goes on: which pass, and behind what.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    /// Over all tags that the binding's patterns match.
    Tags { repository: Option<String>, tag: Option<String> },
    /// Over what the binding has an opinion of, whether it still matches or not.
    Standing { binding: String, after: Option<String> },
}

impl Position {
    fn text(&self) -> String {
        match self {
            Position::Tags { repository, tag } => {
                format!("tags|{}|{}", repository.as_deref().unwrap_or(""), tag.as_deref().unwrap_or(""))
            }
            Position::Standing { binding, after } => {
                format!("standing|{binding}|{}", after.as_deref().unwrap_or(""))
            }
        }
    }

    fn parse(text: &str) -> Option<Position> {
        let mut parts = text.splitn(3, '|');
        let (pass, first, second) = (parts.next()?, parts.next()?, parts.next()?);
        let filled = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        match pass {
            "tags" => Some(Position::Tags { repository: filled(first), tag: filled(second) }),
            "standing" => Some(Position::Standing { binding: first.to_owned(), after: filled(second) }),
            _ => None,
        }
    }
}

/// The outcome of one portion: where to go on, or the end.
pub type Portion = Option<String>;

/// Judges a portion of what a binding matches, then of what it had an opinion of. Call it again with what it returns.
///
/// # Errors
/// Where something of the server's own failed.
pub async fn by_binding(
    app: &App,
    name: &str,
    from: Option<&str>,
    cause: Option<EventId>,
) -> Result<Portion, PromoteError> {
    let start = Position::Tags { repository: None, tag: None };
    let bound = binding::find(&app.store, name).await?;
    let at = from.and_then(Position::parse).unwrap_or(start);
    let next = match (at, &bound) {
        (Position::Tags { repository, tag }, Some(bound)) => {
            match over_tags(app, bound, repository, tag, cause).await? {
                Some(next) => Some(next),
                None => Some(Position::Standing { binding: name.to_owned(), after: None }),
            }
        }
        (Position::Tags { .. }, None) => Some(Position::Standing { binding: name.to_owned(), after: None }),
        (Position::Standing { after, .. }, _) => over_standing(app, name, after, cause).await?,
    };
    Ok(next.map(|position| position.text()))
}

/// One page of tags of one repository, or the search for the next repository that matches.
async fn over_tags(
    app: &App,
    bound: &Bound,
    repository: Option<String>,
    tag: Option<String>,
    cause: Option<EventId>,
) -> Result<Option<Position>, PromoteError> {
    if let Some(repository) = repository.as_ref().filter(|_| tag.is_some()) {
        return tags_of(app, bound, repository, tag.as_deref(), cause).await.map(Some);
    }
    let pattern = &bound.binding.repositories;
    let page = list::repositories_from(&app.store, pattern.literal(), repository.as_deref(), PAGE).await?;
    let matching = page.names.iter().find(|name| pattern.matches(name));
    match (matching, page.names.last()) {
        (Some(name), _) => tags_of(app, bound, name.as_str(), None, cause).await.map(Some),
        (None, Some(last)) if page.more => {
            Ok(Some(Position::Tags { repository: Some(last.to_string()), tag: None }))
        }
        (None, _) => Ok(None),
    }
}

async fn tags_of(
    app: &App,
    bound: &Bound,
    repository: &str,
    after: Option<&str>,
    cause: Option<EventId>,
) -> Result<Position, PromoteError> {
    let done = Position::Tags { repository: Some(repository.to_owned()), tag: None };
    let Ok(name) = repository.parse::<RepoName>() else { return Ok(done) };
    let Some(page) = list::tags(&app.store, &name, after, PAGE).await? else { return Ok(done) };
    for tag in &page.names {
        if bound.binding.matches(&name, tag) {
            one(app, &name, tag, bound.binding.name.as_str(), cause).await?;
        }
    }
    let last = page.names.last().filter(|_| page.more).map(Tag::to_string);
    Ok(Position::Tags { repository: Some(repository.to_owned()), tag: last })
}

async fn one(
    app: &App,
    repository: &RepoName,
    tag: &Tag,
    binding: &str,
    cause: Option<EventId>,
) -> Result<(), PromoteError> {
    match judge::by_binding(app, repository, tag, binding, cause, &mut Summary::default()).await {
        Ok(()) => Ok(()),
        Err(PromoteError::Interrupted) => Err(PromoteError::Interrupted),
        Err(error) => {
            // One image must not keep the others from it: it gets a job of its own, which tries again and shows why it
            // fails. Where the store itself fails, so does this.
            tracing::warn!(place = %stage(repository, tag), binding, %error, "an image cannot be judged");
            let work = &Work::Judge { repository: repository.clone(), tag: tag.clone() };
            app.store.act(|mut tx| async move { jobs::enqueue(&mut tx, work.clone(), cause).await }).await?;
            Ok(())
        }
    }
}

async fn over_standing(
    app: &App,
    name: &str,
    after: Option<String>,
    cause: Option<EventId>,
) -> Result<Option<Position>, PromoteError> {
    let after = after.and_then(|after| place_key(&["standing", name], &after));
    let places = standing::of_binding(&app.store, name, after.as_ref(), PAGE).await?;
    for place in &places.places {
        one(app, &place.repository, &place.tag, name, cause).await?;
    }
    let last = places.places.last().filter(|_| places.next.is_some());
    Ok(last.map(|place| Position::Standing { binding: name.to_owned(), after: Some(place_text(place)) }))
}

fn place_text(place: &Place) -> String {
    format!("{} {}", place.repository, place.tag)
}

fn place_key(head: &[&str], text: &str) -> Option<Key> {
    let (repository, tag) = text.split_once(' ')?;
    Some(key(Space::Held, &[head, &[repository, tag]].concat()))
}

/// Judges a portion of what the bindings of a plugin have an opinion of.
///
/// # Errors
/// Where something of the server's own failed.
pub async fn by_plugin(
    app: &App,
    plugin: &str,
    from: Option<&str>,
    cause: Option<EventId>,
) -> Result<Portion, PromoteError> {
    let uses = |bound: &&Bound| bound.binding.policies.iter().any(|policy| policy.plugin == plugin);
    let all = binding::all(&app.store).await?;
    let names: Vec<&str> = all.iter().filter(uses).map(|bound| bound.binding.name.as_str()).collect();
    let Some((name, after)) = in_bindings(&names, from) else { return Ok(None) };
    let next = over_standing(app, &name, after, cause).await?;
    Ok(next.or_else(|| behind(&names, &name)).map(|position| position.text()))
}

/// Where a walk over what some bindings have an opinion of goes on: in which binding, and behind what.
fn in_bindings(names: &[&str], from: Option<&str>) -> Option<(String, Option<String>)> {
    match from.and_then(Position::parse) {
        Some(Position::Standing { binding, after }) => Some((binding, after)),
        _ => names.first().map(|first| ((*first).to_owned(), None)),
    }
}

/// The next of the bindings, which are in the order of their names.
fn behind(names: &[&str], name: &str) -> Option<Position> {
    let next = names.iter().find(|other| **other > name)?;
    Some(Position::Standing { binding: (*next).to_owned(), after: None })
}

/// Judges a portion of what waits for an answer about an image, in one repository or in all.
///
/// # Errors
/// Where something of the server's own failed.
pub async fn by_image(
    app: &App,
    digest: &str,
    repository: Option<&RepoName>,
    from: Option<&str>,
    cause: Option<EventId>,
) -> Result<Portion, PromoteError> {
    let after = from
        .and_then(|from| from.split_once(' '))
        .and_then(|(name, place)| place_key(&["image", digest, name], place));
    let places = standing::of_image(&app.store, digest, after.as_ref(), PAGE).await?;
    for place in places.places.iter().filter(|place| repository.is_none_or(|only| *only == place.repository))
    {
        one(app, &place.repository, &place.tag, &place.binding, cause).await?;
    }
    let last = places.places.last().filter(|_| places.next.is_some());
    Ok(last.map(|place| format!("{} {}", place.binding, place_text(place))))
}

/// Forgets a portion of how tags of a repository stand that are not there any more.
///
/// # Errors
/// Where the store fails.
pub async fn forget_gone(
    app: &App,
    repository: &RepoName,
    from: Option<&str>,
) -> Result<Portion, PromoteError> {
    let all = binding::all(&app.store).await?;
    let names: Vec<&str> = all.iter().map(|bound| bound.binding.name.as_str()).collect();
    let Some((name, after)) = in_bindings(&names, from) else { return Ok(None) };
    let after = after.and_then(|after| place_key(&["standing", &name], &after));
    let places = standing::of_repository(&app.store, &name, repository, after.as_ref(), PAGE).await?;
    for place in &places.places {
        judge::forget(app, place).await?;
    }
    let last = places.places.last().filter(|_| places.next.is_some());
    let next = last.map(|place| Position::Standing { binding: name.clone(), after: Some(place_text(place)) });
    Ok(next.or_else(|| behind(&names, &name)).map(|position| position.text()))
}

/// A page of tags that an age rule wants to be judged again now, none twice, from behind `after`, and where to go on: what
/// cannot be judged stays due, and the others come past it.
///
/// # Errors
/// Where the store cannot be read.
pub async fn due(app: &App, after: Option<&Key>) -> Result<(Vec<(RepoName, Tag)>, Option<Key>), StoreError> {
    let Places { places, next } = standing::due(&app.store, app.now_ms(), after, PAGE).await?;
    let mut tags: Vec<(RepoName, Tag)> =
        places.into_iter().map(|place| (place.repository, place.tag)).collect();
    tags.sort();
    tags.dedup();
    Ok((tags, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back() {
        let some = |text: &str| Some(text.to_owned());
        for position in [
            Position::Tags { repository: None, tag: None },
            Position::Tags { repository: some("dev/app"), tag: some("1.4") },
            Position::Standing { binding: "a".to_owned(), after: some("dev/app 1.4") },
        ] {
            assert_eq!(Position::parse(&position.text()), Some(position));
        }
    }
}
