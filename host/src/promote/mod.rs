//! Which images move on, by which rule, and why they did or did not.
//!
//! An operator sees `wharf policy bind`, `policy ls`, `policy explain dev/app:1.4`. A [`Binding`] says which tags are judged
//! by which policies, and where they go. What a judgement found is a [`Decision`], kept with its evidence; what has been
//! promoted is a row of its own, so that nothing is promoted twice; where an image went is another, so that its signatures follow;
//! what waits is in an index of answers it waits for.
//!
//! Entry: [`compose`] makes one verdict of many; [`cycle::check`] is asked when a binding is written.
//!
//! Invariant: nothing here commits, and nothing here knows the registry; `flow/promote/` joins the two.
//! Invariant: no data is never clean: an approval by a policy that did not ask about missing data is a hold.
//! Invariant: whatever fails is a hold, never an approval.
//! Invariant: a promotion is keyed by (binding, source repository, tag, tag revision).

pub mod binding;
pub mod compose;
pub mod config;
pub mod cycle;
pub mod decision;
pub mod destination;
mod glob;
pub mod lineage;
pub mod platforms;
pub mod reasons;
pub mod standing;
pub mod template;

pub use binding::{Binding, BindingName, Bound, Mode, Policy, TargetRule};
pub use compose::{Composed, Opinion, Reason, Verdict, compose};
pub use decision::{Authority, Decision, Effect, Judged, Outcome};
pub use glob::TagPattern;
pub use template::{RepoTemplate, TagTemplate};
