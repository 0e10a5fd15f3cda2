//! Bindings that lead an image round are refused when they are written.
//!
//! A binding leads to another where a repository and tag that it can promote to match the other's patterns. What a template
//! can give is widened to a pattern, so a circle is found wherever there is one, and sometimes where only no repository has
//! the name that would close it: narrower patterns then say so.

use super::binding::{Binding, Mode};
use super::glob::{repositories_overlap, texts_overlap};

/// A circle of bindings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it would lead images round: {}; hint: narrow a pattern so that it leaves out what the targets give", describe(.steps))]
pub struct Cycle {
    /// Names of bindings, each with the target that leads to the next; the last leads to the first, which is the new one.
    /// None stands for a binding that is not told of.
    pub steps: Vec<Option<(String, String)>>,
}

impl Cycle {
    /// The same, told to somebody who sees no more than these bindings.
    pub fn told(self, sees: impl Fn(&str) -> bool) -> Cycle {
        let seen = |step: Option<(String, String)>| step.filter(|(binding, _)| sees(binding));
        Cycle { steps: self.steps.into_iter().map(seen).collect() }
    }
}

fn describe(steps: &[Option<(String, String)>]) -> String {
    let step = |step: &Option<(String, String)>| match step {
        Some((binding, target)) => format!("`{binding}` promotes to `{target}`"),
        None => "another binding promotes on".to_owned(),
    };
    let all = steps.iter().map(step).collect::<Vec<_>>().join(", which ");
    let first = steps.first().and_then(Option::as_ref).map_or("", |(binding, _)| binding);
    format!("{all}, which `{first}` takes up")
}

/// The target of `from`, if any, by which it leads to `to`.
fn leads<'a>(from: &'a Binding, to: &Binding) -> Option<&'a super::TargetRule> {
    from.targets.iter().find(|target| {
        repositories_overlap(&target.repository.as_pattern(), to.repositories.as_str())
            && texts_overlap(&target.tag.as_pattern(), to.tags.as_str())
    })
}

/// Whether `new` closes a circle with the `others` that promote.
///
/// # Errors
/// The shortest [`Cycle`] through `new`.
pub fn check(new: &Binding, others: &[Binding]) -> Result<(), Cycle> {
    if new.mode != Mode::Enforce {
        return Ok(());
    }
    let others: Vec<&Binding> =
        others.iter().filter(|other| other.mode == Mode::Enforce && other.name != new.name).collect();
    // Breadth first from `new`: each binding with the place in `reached` that led to it.
    let mut reached: Vec<(&Binding, Option<usize>)> = vec![(new, None)];
    let mut at = 0;
    while let Some((binding, _)) = reached.get(at).copied() {
        if leads(binding, new).is_some() {
            return Err(Cycle { steps: steps(&reached, at, new) });
        }
        for other in &others {
            if !reached.iter().any(|(seen, _)| seen.name == other.name) && leads(binding, other).is_some() {
                reached.push((other, Some(at)));
            }
        }
        at += 1;
    }
    Ok(())
}

fn steps(reached: &[(&Binding, Option<usize>)], last: usize, new: &Binding) -> Vec<Option<(String, String)>> {
    let mut steps = Vec::new();
    let (mut at, mut next) = (Some(last), new);
    while let Some((binding, before)) = at.and_then(|at| reached.get(at)).copied() {
        let target = leads(binding, next).map(|target| format!("{}:{}", target.repository, target.tag));
        steps.push(Some((binding.name.to_string(), target.unwrap_or_default())));
        (at, next) = (before, binding);
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn binding(name: &str, from: &str, to: &str) -> Binding {
        tagged(name, from, "*", to, "%n")
    }

    fn tagged(name: &str, from: &str, tags: &str, to: &str, tag: &str) -> Binding {
        serde_json::from_value(json!({
            "name": name, "repositories": from, "tags": tags, "policies": [{"plugin": "criteria"}], "as": "ann",
            "targets": [{"name": "next", "repository": to, "tag": tag}],
        }))
        .unwrap()
    }

    #[test]
    fn a_chain_and_a_branch_are_no_circle() {
        let others = [binding("a", "dev/**", "qa/{name}"), binding("b", "qa/**", "prod/{name}")];
        check(&binding("c", "dev/**", "lab/{name}"), &others).unwrap();
        check(&binding("d", "prod/**", "archive/{repository}"), &others).unwrap();
    }

    #[test]
    fn a_circle_is_refused_and_named() {
        let others = [binding("a", "dev/**", "qa/{name}"), binding("b", "qa/**", "prod/{name}")];
        let cycle = check(&binding("c", "prod/*", "dev/{name}"), &others).unwrap_err();
        let names = cycle.steps.iter().flatten().map(|(binding, _)| binding.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["c", "a", "b"]);
        assert_eq!(
            cycle.to_string(),
            "it would lead images round: `c` promotes to `dev/{name}:%n`, which `a` promotes to `qa/{name}:%n`, which \
             `b` promotes to `prod/{name}:%n`, which `c` takes up; hint: narrow a pattern so that it leaves out what \
             the targets give"
        );
    }

    /// Regression: the bindings of others were named, with their patterns and targets.
    #[test]
    fn a_circle_names_what_may_be_seen() {
        let others = [binding("a", "dev/**", "qa/{name}"), binding("b", "qa/**", "prod/{name}")];
        let cycle = check(&binding("c", "prod/*", "dev/{name}"), &others).unwrap_err();
        assert_eq!(
            cycle.told(|name| name != "a").to_string(),
            "it would lead images round: `c` promotes to `dev/{name}:%n`, which another binding promotes on, which `b` \
             promotes to `prod/{name}:%n`, which `c` takes up; hint: narrow a pattern so that it leaves out what the \
             targets give"
        );
    }

    #[test]
    fn a_binding_that_leads_to_itself_is_refused_unless_tags_keep_it_apart() {
        check(&binding("a", "**", "prod/{name}"), &[]).unwrap_err();
        check(&binding("a", "dev/*", "dev/{name}"), &[]).unwrap_err();
        check(&tagged("a", "dev/*", "v*", "{repository}", "stable-%Y"), &[]).unwrap();
        check(&tagged("a", "dev/*", "*", "{repository}", "stable-%Y"), &[]).unwrap_err();
    }

    #[test]
    fn what_does_not_promote_closes_no_circle_and_a_binding_is_not_its_own_past() {
        let mut back = binding("b", "qa/**", "dev/{name}");
        back.mode = Mode::Shadow;
        let forth = binding("a", "dev/**", "qa/{name}");
        check(&back, std::slice::from_ref(&forth)).unwrap();
        check(&forth, &[back.clone()]).unwrap();
        back.mode = Mode::Enforce;
        check(&back, std::slice::from_ref(&forth)).unwrap_err();
        check(&binding("a", "lab/**", "qa/{name}"), &[forth]).unwrap();
    }
}
