//! How far an image has come, so that it goes round in no circle.

use crate::event::Stage;

/// Stages that one image may pass.
pub const STAGES_MAX: usize = 16;

/// Why an image does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    #[error("`{0}` is where it stands already")]
    Same(Stage),
    #[error("it has been at `{at}` before: {}; hint: a binding leads back, see `wharf policy ls`", path(.lineage))]
    Repeat { at: Stage, lineage: Vec<Stage> },
    #[error("it has passed {STAGES_MAX} stages: {}; hint: bindings lead it on without end", path(.0))]
    TooLong(Vec<Stage>),
}

fn path(lineage: &[Stage]) -> String {
    lineage.iter().map(Stage::to_string).collect::<Vec<_>>().join(" → ")
}

/// The lineage of an image promoted from `from`, where it has `passed` stages before, to `to`.
///
/// # Errors
/// [`LineageError`] where it would stand somewhere twice, or has gone too far.
pub fn extend(passed: &[Stage], from: &Stage, to: &Stage) -> Result<Vec<Stage>, LineageError> {
    if from == to {
        return Err(LineageError::Same(to.clone()));
    }
    let lineage: Vec<Stage> = passed.iter().chain([from]).cloned().collect();
    if lineage.contains(to) {
        return Err(LineageError::Repeat { at: to.clone(), lineage });
    }
    if lineage.len() > STAGES_MAX {
        return Err(LineageError::TooLong(lineage));
    }
    Ok(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(repository: &str) -> Stage {
        Stage { repository: repository.parse().unwrap(), tag: "1".parse().unwrap() }
    }

    #[test]
    fn a_chain_grows_and_never_turns_back() {
        let (dev, qa, prod) = (stage("dev/app"), stage("qa/app"), stage("prod/app"));
        let first = extend(&[], &dev, &qa).unwrap();
        let second = extend(&first, &qa, &prod).unwrap();
        assert_eq!(second, [dev.clone(), qa.clone()]);
        assert!(matches!(extend(&second, &prod, &dev), Err(LineageError::Repeat { .. })));
        assert!(matches!(extend(&second, &prod, &prod), Err(LineageError::Same(_))));
    }

    #[test]
    fn whatever_the_bindings_say_it_ends() {
        let mut passed = Vec::new();
        let mut steps = 0;
        while let Ok(next) =
            extend(&passed, &stage(&format!("s/a{steps}")), &stage(&format!("s/a{}", steps + 1)))
        {
            (passed, steps) = (next, steps + 1);
        }
        assert_eq!(steps, STAGES_MAX);
    }
}
