//! What a policy answers: a verdict, and the reasons that a person reads.
//!
//! Invariant: an outcome only gets worse while a policy adds to it: `reject` beats `hold`, and both beat `approve`.

pub use crate::bindings::exports::wharf::plugin::policy::Verdict;
/// One sentence of the explanation. `code` is for machines (`kebab-case`, stable), `text` for people.
pub use crate::bindings::wharf::plugin::outcome::Reason;

/// A verdict with its reasons. Start from [`approve`] and let each rule make it worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub reasons: Vec<Reason>,
    /// Which of the binding's targets the image may go to; empty means all of them.
    pub targets: Vec<String>,
    /// When the answer will differ with no fact changed: the earliest moment that an age rule named.
    pub recheck_at_ms: Option<u64>,
}

fn outcome(verdict: Verdict) -> Outcome {
    Outcome { verdict, reasons: Vec::new(), targets: Vec::new(), recheck_at_ms: None }
}

/// May be promoted, as far as this policy is concerned.
pub fn approve() -> Outcome {
    outcome(Verdict::Approve)
}

/// Not now: the host asks again when an answer that this policy got changes.
pub fn hold(code: impl Into<String>, text: impl Into<String>) -> Outcome {
    outcome(Verdict::Hold).note(code, text)
}

/// Not this push, whatever changes.
pub fn reject(code: impl Into<String>, text: impl Into<String>) -> Outcome {
    outcome(Verdict::Reject).note(code, text)
}

/// This policy has nothing to say about this image. An image on which all abstain is not promoted.
pub fn abstain(code: impl Into<String>, text: impl Into<String>) -> Outcome {
    outcome(Verdict::Abstain).note(code, text)
}

impl Outcome {
    /// Adds a reason and leaves the verdict.
    #[must_use]
    pub fn note(mut self, code: impl Into<String>, text: impl Into<String>) -> Self {
        self.reasons.push(Reason { code: code.into(), text: text.into() });
        self
    }

    /// Adds a reason to hold. A reject stays a reject.
    pub fn hold(&mut self, code: impl Into<String>, text: impl Into<String>) {
        if self.verdict != Verdict::Reject {
            self.verdict = Verdict::Hold;
        }
        self.reasons.push(Reason { code: code.into(), text: text.into() });
    }

    /// Adds a reason to reject.
    pub fn reject(&mut self, code: impl Into<String>, text: impl Into<String>) {
        self.verdict = Verdict::Reject;
        self.reasons.push(Reason { code: code.into(), text: text.into() });
    }

    /// Sends the image to this target of the binding; a name that the binding does not list holds the image.
    #[must_use]
    pub fn target(mut self, name: impl Into<String>) -> Self {
        self.targets.push(name.into());
        self
    }

    /// Asks to be called again at this moment (Unix time, ms): for rules about age. The earliest moment named counts.
    pub fn recheck_at(&mut self, at_ms: u64) {
        self.recheck_at_ms = Some(self.recheck_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// Why a policy stopped early, so that `?` works on [`Image::scanned`](crate::Image::scanned) and on errors that are text.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// It knows its answer.
    With(Box<Outcome>),
    /// It cannot tell; the host holds the image and shows this text.
    Failed(String),
}

impl From<Outcome> for Stop {
    fn from(outcome: Outcome) -> Self {
        Stop::With(Box::new(outcome))
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Stop::Failed(why)
    }
}

/// What a policy that uses `?` returns.
pub type Judgement = Result<Outcome, Stop>;

/// What a policy function may return: an [`Outcome`], or a [`Judgement`].
pub trait IntoOutcome {
    /// # Errors
    /// What the policy says went wrong.
    fn into_outcome(self) -> Result<Outcome, String>;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Result<Outcome, String> {
        Ok(self)
    }
}

impl IntoOutcome for Judgement {
    fn into_outcome(self) -> Result<Outcome, String> {
        match self {
            Ok(outcome) => Ok(outcome),
            Err(Stop::With(outcome)) => Ok(*outcome),
            Err(Stop::Failed(why)) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_only_gets_worse() {
        let mut outcome = approve();
        outcome.hold("a", "held");
        assert_eq!(outcome.verdict, Verdict::Hold);
        outcome.reject("b", "rejected");
        outcome.hold("c", "held again");
        assert_eq!(outcome.verdict, Verdict::Reject);
        assert_eq!(outcome.reasons.len(), 3);
    }

    #[test]
    fn the_earliest_recheck_counts() {
        let mut outcome = approve();
        outcome.recheck_at(20);
        outcome.recheck_at(10);
        outcome.recheck_at(30);
        assert_eq!(outcome.recheck_at_ms, Some(10));
    }

    #[test]
    fn a_question_mark_stops_a_policy() {
        fn policy(scanned: Result<(), Outcome>, parsed: Result<(), String>) -> Judgement {
            scanned?;
            parsed?;
            Ok(approve())
        }
        let verdict = |judgement: Judgement| judgement.into_outcome().map(|outcome| outcome.verdict);
        assert_eq!(verdict(policy(Err(hold("no-data", "unscanned")), Ok(()))), Ok(Verdict::Hold));
        assert_eq!(verdict(policy(Ok(()), Ok(()))), Ok(Verdict::Approve));
        assert_eq!(verdict(policy(Ok(()), Err("broken".to_owned()))), Err("broken".to_owned()));
    }
}
