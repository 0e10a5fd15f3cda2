//! What a token is narrowed to: `dev/*:pull,push`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wharf_oci::{ParseError, RepoPattern};

use super::Action;

/// One `pattern:action,action` of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    pub pattern: RepoPattern,
    pub actions: Vec<Action>,
}

/// A text that is no scope.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    #[error("`{0}` is not a scope; hint: write it as `dev/*:pull,push`")]
    NoActions(String),
    #[error("`{0}` is not an action; hint: pull, push, delete, maintain, administer or `*`")]
    UnknownAction(String),
    #[error(transparent)]
    Pattern(#[from] ParseError),
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let shown = || text.chars().take(128).collect::<String>();
        let (pattern, actions) = text.rsplit_once(':').ok_or_else(|| ScopeError::NoActions(shown()))?;
        if actions.is_empty() {
            return Err(ScopeError::NoActions(shown()));
        }
        let mut found = Vec::new();
        for name in actions.split(',') {
            match Action::ALL.iter().find(|action| action.name() == name) {
                Some(action) => found.push(*action),
                None if name == "*" => found.extend(Action::ALL),
                None => return Err(ScopeError::UnknownAction(name.chars().take(64).collect())),
            }
        }
        // Whoever may pull may see that there is something to pull.
        if found.contains(&Action::Pull) {
            found.push(Action::List);
        }
        found.sort_unstable();
        found.dedup();
        Ok(Scope { pattern: pattern.parse()?, actions: found })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.pattern)?;
        if self.actions.len() == Action::ALL.len() {
            return f.write_str("*");
        }
        // `list` goes without saying where there is `pull`.
        let said = |a: &&Action| **a != Action::List || !self.actions.contains(&Action::Pull);
        for (i, action) in self.actions.iter().filter(said).enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(action.name())?;
        }
        Ok(())
    }
}
