//! A binding is written, or taken away.

use serde::Serialize;
use wharf_store::StoreError;

use crate::App;
use crate::access::{self, Action, Answer, Principal, View};
use crate::auth::{self, UserError, UserName};
use crate::event::{self, Event, Kind};
use crate::plugin::ConfigError;
use crate::promote::binding::{self, BINDINGS_MAX, BindingError, BindingRow};
use crate::promote::cycle::{self, Cycle};
use crate::promote::{Binding, Bound};

/// Characters of an unknown name that an error repeats.
const NAME_CHARS_SHOWN: usize = 100;

/// Why a binding is refused.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Binding(#[from] BindingError),
    #[error(transparent)]
    Cycle(#[from] Cycle),
    /// At least one, in the binding's order.
    #[error("{}", all_of(.0))]
    Config(Vec<PolicyError>),
    #[error(
        "only who administers the server may bind as somebody else than themselves; hint: `as = \"{0}\"`"
    )]
    Owner(String),
    #[error("binding `{name}` acts as `{owner}`; hint: they may change it, and who administers the server")]
    Theirs { name: String, owner: String },
    #[error("the name `{0}` is taken; hint: choose another")]
    Taken(String),
    /// What it is to act as is no user.
    #[error(transparent)]
    User(#[from] UserError),
    #[error(
        "`{who}` may not bind over `{pattern}`; hint: it needs the role `maintain` over these repositories"
    )]
    Refused { who: String, pattern: String },
    #[error("there are {BINDINGS_MAX} bindings already; hint: one binding may match many repositories")]
    TooMany,
    #[error(
        "binding `{name}` is at revision {found}, not {expected}; hint: read it again and repeat the change"
    )]
    Revision { name: String, expected: u64, found: u64 },
    #[error("there is no binding `{0}`; hint: `wharf policy ls` shows those there are")]
    None(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with one policy of a binding. The error names its plugin, which tells the policy unless others have it too.
#[derive(Debug, thiserror::Error)]
#[error("{}{error}", place(*.index, *.is_one_of_several))]
pub struct PolicyError {
    /// Its place in the binding, from 0.
    pub index: usize,
    /// Whether the binding has other policies of the plugin.
    pub is_one_of_several: bool,
    pub error: ConfigError,
}

/// A policy's place as people count.
fn place(index: usize, is_needed: bool) -> String {
    if is_needed { format!("policy {}: ", index + 1) } else { String::new() }
}

/// What is wrong, policy by policy, and then what to do: a hint in between would hide what comes after it.
fn all_of(policies: &[PolicyError]) -> String {
    let (mut wrong, mut hints) = (Vec::new(), Vec::new());
    for policy in policies {
        let text = policy.to_string();
        let (problem, hint) = text.split_once("; hint: ").unwrap_or((&text, ""));
        wrong.push(problem.to_owned());
        if !hint.is_empty() && !hints.iter().any(|known| known == hint) {
            hints.push(hint.to_owned());
        }
    }
    match hints.is_empty() {
        true => wrong.join("; "),
        false => format!("{}; hint: {}", wrong.join("; "), hints.join("; ")),
    }
}

/// A problem with its place in the binding's document, for whoever wrote that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Pointed {
    /// A JSON Pointer (RFC 6901) into the binding.
    pub pointer: String,
    pub message: String,
}

impl BindError {
    /// The problems that have a place in the binding.
    pub fn pointed(&self) -> Vec<Pointed> {
        let BindError::Config(policies) = self else { return Vec::new() };
        let of = |policy: &PolicyError| match &policy.error {
            ConfigError::Refused { problems, .. } => problems
                .iter()
                .map(|problem| Pointed {
                    pointer: format!("/policies/{}/config{}", policy.index, problem.pointer),
                    message: problem.message.clone(),
                })
                .collect(),
            error => vec![Pointed {
                pointer: format!("/policies/{}/plugin", policy.index),
                message: error.to_string(),
            }],
        };
        policies.iter().flat_map(of).collect()
    }
}

/// Writes a binding, new or in place of the one of its name, and has what it matches judged. With `expected`, only in
/// place of that revision.
///
/// # Errors
/// [`BindError`], before anything is written.
pub async fn bind(
    app: &App,
    who: &Principal,
    binding: Binding,
    expected: Option<u64>,
) -> Result<Bound, BindError> {
    check(app, who, &binding).await?;
    may_maintain(&access::view(app, who).await?, who, &binding)?;
    check_policies(app, &binding).await?;
    let row = &BindingRow { binding, by: who.name.clone(), at_ms: app.now_ms() };
    let ((), rev) = app
        .store
        .act(|mut tx| async move {
            let all = binding::expect_all(&mut tx).await?;
            let name = &row.binding.name;
            let old = all.iter().find(|bound| bound.binding.name == *name);
            let view = access::view(app, who).await?;
            // Whoever replaces a binding takes away what it did, and needs the rights that unbinding needs.
            if let Some(old) = old {
                if !may_see(&view, who, &old.binding) {
                    return Err(BindError::Taken(name.to_string()));
                }
                may_change(&view, who, &old.binding)?;
            }
            let found = old.map_or(0, |old| old.revision);
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(BindError::Revision { name: name.to_string(), expected, found });
            }
            if old.is_none() && all.len() >= BINDINGS_MAX {
                return Err(BindError::TooMany);
            }
            let others: Vec<Binding> = all.iter().map(|bound| bound.binding.clone()).collect();
            let sees = |name: &str| {
                let mut visible = others.iter().filter(|other| may_see(&view, who, other));
                name == row.binding.name.as_str() || visible.any(|other| other.name.as_str() == name)
            };
            cycle::check(&row.binding, &others).map_err(|cycle| cycle.told(sees))?;
            binding::put(&mut tx, row)?;
            let changed = Kind::BindingChanged { binding: name.to_string() };
            event::append(&mut tx, &Event::new(row.at_ms, &row.by, changed))?;
            Ok(())
        })
        .await?;
    let BindingRow { binding, by, at_ms } = row.clone();
    Ok(Bound { binding, by, at_ms, revision: rev.0 })
}

/// Takes a binding away; what it promoted stays.
///
/// # Errors
/// [`BindError::None`], also where there is one that they may not see; [`BindError::Theirs`], [`BindError::Refused`], or
/// the store's.
pub async fn unbind(app: &App, who: &Principal, name: &str) -> Result<(), BindError> {
    let bound = show(app, who, name).await?;
    may_change(&access::view(app, who).await?, who, &bound.binding)?;
    let at_ms = app.now_ms();
    app.store
        .act(|mut tx| async move {
            if binding::expect(&mut tx, name).await?.is_none() {
                return Err(BindError::None(name.to_owned()));
            }
            binding::remove(&mut tx, name);
            let removed = Kind::BindingRemoved { binding: name.to_owned() };
            event::append(&mut tx, &Event::new(at_ms, &who.name, removed))?;
            Ok(())
        })
        .await?;
    Ok(())
}

/// The bindings that `who` may see, by name: their own, and those about repositories of which they may pull some.
///
/// # Errors
/// Where the store cannot be read.
pub async fn visible(app: &App, who: &Principal) -> Result<Vec<Bound>, StoreError> {
    let view = access::view(app, who).await?;
    let mut all = binding::all(&app.store).await?;
    all.retain(|bound| may_see(&view, who, &bound.binding));
    Ok(all)
}

/// One binding, if `who` may see it.
///
/// # Errors
/// [`BindError::None`], also where there is one that they may not see; else the store's.
pub async fn show(app: &App, who: &Principal, name: &str) -> Result<Bound, BindError> {
    let view = access::view(app, who).await?;
    let found = binding::find(&app.store, name).await?;
    let seen = found.filter(|bound| may_see(&view, who, &bound.binding));
    seen.ok_or_else(|| BindError::None(name.chars().take(NAME_CHARS_SHOWN).collect()))
}

fn may_see(view: &View<'_>, who: &Principal, binding: &Binding) -> bool {
    let is_own = binding.owner == who.name && who.scopes.is_none();
    let administers = view.judge_server() == Answer::Allowed;
    is_own || administers || view.may_in(Action::Pull, |pattern| binding.overlaps(pattern))
}

/// Whether what `who` asks for can be tried out: it is a binding, and acts as a user as whom they may act. That is only
/// oneself, unless one administers the server: a binding does what its owner may, and a dry run tells what that is.
///
/// # Errors
/// [`BindError::Binding`], [`BindError::Owner`], [`BindError::User`], or the store's.
pub async fn check(app: &App, who: &Principal, binding: &Binding) -> Result<(), BindError> {
    binding.check()?;
    // The server's own name has every right, and no binding has it.
    let owner: UserName = binding.owner.parse()?;
    if binding.owner != who.name && access::view(app, who).await?.judge_server() != Answer::Allowed {
        return Err(BindError::Owner(who.name.clone()));
    }
    match auth::find_user(&app.store, &owner).await? {
        Some(_) => Ok(()),
        None => Err(UserError::Unknown(owner).into()),
    }
}

/// Whether the plugins of a binding's policies are there and take their configs.
///
/// # Errors
/// [`BindError::Config`], with all that is wrong.
pub async fn check_policies(app: &App, binding: &Binding) -> Result<(), BindError> {
    let mut wrong = Vec::new();
    let of_plugin = |name: &str| binding.policies.iter().filter(|policy| policy.plugin == name).count();
    for (index, policy) in binding.policies.iter().enumerate() {
        if let Err(error) = app.plugins.check_config(&policy.plugin, &policy.config_json()).await {
            let is_one_of_several = of_plugin(&policy.plugin) > 1;
            wrong.push(PolicyError { index, is_one_of_several, error });
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(BindError::Config(wrong)),
    }
}

fn may_change(view: &View<'_>, who: &Principal, binding: &Binding) -> Result<(), BindError> {
    if binding.owner != who.name && view.judge_server() != Answer::Allowed {
        let (name, owner) = (binding.name.to_string(), binding.owner.clone());
        return Err(BindError::Theirs { name, owner });
    }
    may_maintain(view, who, binding)
}

fn may_maintain(view: &View<'_>, who: &Principal, binding: &Binding) -> Result<(), BindError> {
    let maintains = view.judge_pattern(Action::Maintain, &binding.repositories) == Answer::Allowed;
    if maintains || view.judge_server() == Answer::Allowed {
        return Ok(());
    }
    let (who, pattern) = (who.name.clone(), binding.repositories.to_string());
    Err(BindError::Refused { who, pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_after_everything_that_is_wrong() {
        let of = |index, error| PolicyError { index, is_one_of_several: false, error };
        let gone = |index, name: &str| of(index, ConfigError::NoPlugin(name.into()));
        let problem = wharf_plugin::Problem { pointer: "/max".into(), message: "no number".into() };
        let refused = ConfigError::Refused { plugin: "few-highs".into(), problems: vec![problem] };
        let error = BindError::Config(vec![gone(0, "a"), gone(1, "b"), of(2, refused)]);
        insta::assert_snapshot!(error, @"there is no plugin `a`; there is no plugin `b`; plugin `few-highs` refuses the config: `/max`: no number; hint: drop its `.wasm` into the plugin folder, `wharf plugin ls` shows those there are; `wharf plugin inspect few-highs` shows what it takes");
    }

    /// A binding may ask one plugin twice, with two configs: its name does not tell which of them it refuses.
    #[test]
    fn a_policy_is_told_by_its_place_where_its_plugin_is_not_enough() {
        let check = |index, is_one_of_several, expected: &str| {
            let problem = wharf_plugin::Problem { pointer: "/max".into(), message: "no number".into() };
            let error = ConfigError::Refused { plugin: "few-highs".into(), problems: vec![problem] };
            let told = PolicyError { index, is_one_of_several, error }.to_string();
            assert!(told.starts_with(expected), "{told}");
        };
        check(1, false, "plugin `few-highs` refuses the config: `/max`: no number");
        check(1, true, "policy 2: plugin `few-highs` refuses the config: `/max`: no number");
    }
}
