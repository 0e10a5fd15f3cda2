//! Bindings: who may write and see them, what they refuse, what they would do.

use serde_json::json;
use wharf_oci::{RepoName, Tag, Target};

use super::case::{Case, binding, no_criticals, stage_of};
use crate::access::{Principal, Role};
use crate::auth::UserError;
use crate::flow;
use crate::flow::promote::bind::{self, BindError};
use crate::flow::promote::{dry_run, explain};
use crate::promote::{Binding, Mode, Outcome, Verdict};
use crate::registry::row::{self, RepoRow};
use crate::registry::setting::{self, RepoSetting};

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_decides_and_does_nothing() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let mut shadow = binding("shadow", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    shadow.mode = Mode::Shadow;
    let admin = Principal::user("admin");
    let bound = bind::bind(&case.app, &admin, shadow.clone(), None).await.unwrap();
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    let decision = case.until_judged("dev/app:1", "shadow", Verdict::Approve).await;
    assert_eq!(decision.effects[0].outcome, Outcome::Shadow);
    assert_eq!(case.digest_at("qa/app:1").await, None);
    shadow.mode = Mode::Enforce;
    let stale = bind::bind(&case.app, &admin, shadow.clone(), Some(bound.revision + 1)).await;
    assert!(matches!(stale, Err(BindError::Revision { .. })));
    bind::bind(&case.app, &admin, shadow, Some(bound.revision)).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_the_right_holds_and_who_may_not_bind_does_not() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.add_user("ann").await;
    let mut theirs = binding("theirs", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    theirs.owner = "ann".to_owned();
    let ann = Principal::user("ann");
    let refused = bind::bind(&case.app, &ann, theirs.clone(), None).await;
    assert!(matches!(refused, Err(BindError::Refused { .. })));
    let as_admin = binding("theirs", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    assert!(matches!(bind::bind(&case.app, &ann, as_admin, None).await, Err(BindError::Owner(_))));
    bind::bind(&case.app, &Principal::user("admin"), theirs, None).await.unwrap();
    // Her own repositories give no right over a binding of others.
    case.grant("ann", Role::Maintain, "ann/**").await;
    let mut taken = binding("theirs", "ann/**", &[("ann-qa/{name}", "%n")], no_criticals());
    taken.owner = "ann".to_owned();
    let refused = bind::bind(&case.app, &ann, taken, None).await;
    assert!(matches!(refused, Err(BindError::Refused { .. })), "{refused:?}");
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    let decision = case.until_judged("dev/app:1", "theirs", Verdict::Approve).await;
    let Outcome::Held { reason } = &decision.effects[0].outcome else { panic!("{decision:#?}") };
    assert_eq!(reason.code, "owner-not-allowed");
    case.grant("ann", Role::Read, "dev/**").await;
    case.grant("ann", Role::Write, "qa/**").await;
    explain::ask_again(&case.app, "admin", &decision.repository, &decision.tag).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_or_the_other_bindings_refuse_is_not_bound() {
    let mut case = Case::new().await;
    let admin = Principal::user("admin");
    let wrong = json!([no_criticals(), {"plugin": "criteria", "config": {"criteria": [{"field": "moon"}]}},
        {"plugin": "absent"}]);
    let refused =
        bind::bind(&case.app, &admin, binding("a", "dev/**", &[("qa/{name}", "%n")], wrong), None).await;
    let pointed = refused.unwrap_err().pointed();
    assert!(pointed[0].pointer.starts_with("/policies/1/config/criteria/0"), "{pointed:?}");
    assert_eq!(pointed.last().unwrap().pointer, "/policies/2/plugin");
    case.bind("a", "dev/**", "qa/{name}", no_criticals()).await;
    let circle = binding("b", "qa/**", &[("dev/{name}", "%n")], no_criticals());
    assert!(matches!(bind::bind(&case.app, &admin, circle, None).await, Err(BindError::Cycle(_))));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_and_writes_nothing() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.push("dev/a:1", "a", &[("openssl", "3.0.1")]).await;
    case.push("dev/b:1", "b", &[("openssl", "3.0.9")]).await;
    case.push("dev/b:2", "c", &[("openssl", "3.1")]).await;
    case.until_idle().await;
    let before = *case.app.store.head().borrow();
    let binding = binding("x", "dev/*", &[("qa/{name}", "%n")], no_criticals());
    let admin = Principal::user("admin");
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let run = dry_run::dry_run(&case.app, &admin, &binding, after.as_deref(), 1).await.unwrap();
        let would = |w: dry_run::Would| (format!("{}:{}", w.repository, w.tag), w.verdict, w.to);
        found.extend(run.tags.into_iter().map(would));
        after = run.next;
        if after.is_none() {
            break;
        }
    }
    let verdicts: Vec<(&str, bool)> =
        found.iter().map(|(at, verdict, _)| (at.as_str(), *verdict == Verdict::Approve)).collect();
    assert_eq!(verdicts, [("dev/a:1", false), ("dev/b:1", true), ("dev/b:2", true)]);
    assert_eq!(found[1].2, ["qa/b:1"]);
    assert_eq!(*case.app.store.head().borrow(), before);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_binding_or_tag_leaves_no_standing_behind() {
    let mut case = Case::new().await;
    case.bind("a", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("b", "dev/**", "lab/{name}", no_criticals()).await;
    case.push_unscanned("dev/app:1", "x").await;
    case.push_unscanned("dev/app:2", "x").await;
    case.until_judged("dev/app:2", "b", Verdict::Hold).await;
    case.until_idle().await;
    let admin = Principal::user("admin");
    bind::unbind(&case.app, &admin, "a").await.unwrap();
    let (repository, one) =
        (RepoName::clone(&stage_of("dev/app:1").repository), Tag::clone(&stage_of("x:1").tag));
    flow::delete::target(&case.app, &admin, &repository, &Target::Tag(one)).await.unwrap();
    case.until("standings to go", async |case| {
        let rows = wharf_store::KeyRange::all(wharf_store::Space::Held);
        let rows = case.app.store.scan(rows, 100).await.unwrap().rows;
        // The standing of the second tag with the second binding, and its image.
        (rows.len() == 2).then_some(())
    })
    .await;
    case.stop().await;
}

/// Regression: a user without grants saw all bindings, with their configs.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_shown_to_whom_it_concerns() {
    let mut case = Case::new().await;
    case.add_user("ann").await;
    case.bind("dev", "dev/**", "qa/{name}", no_criticals()).await;
    let mut own = binding("own", "lab/**", &[("qa/{name}", "%n")], no_criticals());
    own.owner = "ann".to_owned();
    bind::bind(&case.app, &Principal::user("admin"), own, None).await.unwrap();
    let sees = async |who: &str| {
        let seen = bind::visible(&case.app, &Principal::user(who)).await.unwrap();
        seen.iter().map(|bound| bound.binding.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(sees("admin").await, ["dev", "own"]);
    assert_eq!(sees("ann").await, ["own"]);
    assert_eq!(sees("eve").await, Vec::<String>::new());
    let hidden = bind::show(&case.app, &Principal::user("eve"), "dev").await;
    assert!(matches!(hidden, Err(BindError::None(_))));
    case.grant("eve", Role::Read, "dev/app").await;
    assert_eq!(sees("eve").await, ["dev"], "it is about a repository that she may pull");
    case.stop().await;
}

/// Regression: a binding could act as the server itself, which may do everything.
#[tokio::test(flavor = "multi_thread")]
async fn no_binding_acts_as_the_server() {
    let mut case = Case::new().await;
    for name in [Principal::SYSTEM, Principal::ANONYMOUS, ""] {
        let mut binding = binding("b", "dev/**", &[("qa/{name}", "%n")], no_criticals());
        binding.owner = name.to_owned();
        let refused = bind::bind(&case.app, &Principal::user("admin"), binding, None).await;
        assert!(matches!(refused, Err(BindError::User(_))), "{name}: {refused:?}");
    }
    case.stop().await;
}

fn owned_by(owner: &str, name: &str, from: &str, to: &str) -> Binding {
    Binding { owner: owner.to_owned(), ..binding(name, from, &[(to, "%n")], no_criticals()) }
}

/// Regression: whoever asked what a binding would do as somebody else read what that user may do.
#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_try_out_what_acts_as_somebody_else() {
    let mut case = Case::new().await;
    for name in ["alice", "ci"] {
        case.add_user(name).await;
    }
    case.grant("alice", Role::Maintain, "dev/**").await;
    let check = async |who: &str, owner: &str| {
        let trial = owned_by(owner, "trial", "dev/**", "qa/{name}");
        bind::check(&case.app, &Principal::user(who), &trial).await
    };
    check("alice", "alice").await.unwrap();
    check("admin", "ci").await.unwrap();
    for owner in ["ci", "admin", "nobody"] {
        let refused = check("alice", owner).await;
        assert!(matches!(&refused, Err(BindError::Owner(_))), "{owner}: {refused:?}");
    }
    case.stop().await;
}

/// Regression: a binding that acts as a user who is not there was made without a word, and held all it judged.
#[tokio::test(flavor = "multi_thread")]
async fn no_binding_acts_as_a_user_who_is_not_there() {
    let mut case = Case::new().await;
    let nobody = owned_by("nobody", "b", "dev/**", "qa/{name}");
    let refused = bind::bind(&case.app, &Principal::user("admin"), nobody, None).await;
    assert!(matches!(&refused, Err(BindError::User(UserError::Unknown(_)))), "{refused:?}");
    case.stop().await;
}

/// Regression: a name that was refused was one that there is; whoever took it read that only others may bind as others.
#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_binding_looks_missing_and_its_name_is_taken() {
    let mut case = Case::new().await;
    let eve = Principal::user("eve");
    case.add_user("eve").await;
    case.grant("eve", Role::Maintain, "eve/**").await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let own = owned_by("eve", "to-qa", "eve/*", "eve/out/{name}");
    let hidden = bind::unbind(&case.app, &eve, "to-qa").await;
    assert!(matches!(&hidden, Err(BindError::None(_))), "{hidden:?}");
    for expected in [None, Some(7)] {
        let taken = bind::bind(&case.app, &eve, own.clone(), expected).await.unwrap_err().to_string();
        assert_eq!(taken, "the name `to-qa` is taken; hint: choose another");
    }
    case.grant("eve", Role::Read, "dev/app").await;
    for refused in [
        bind::unbind(&case.app, &eve, "to-qa").await.unwrap_err(),
        bind::bind(&case.app, &eve, own, None).await.unwrap_err(),
    ] {
        assert!(matches!(&refused, BindError::Theirs { owner, .. } if owner == "admin"), "{refused:?}");
    }
    case.stop().await;
}

/// Regression: whoever closed a circle read the patterns and targets of bindings that they may not see.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_tells_nothing_of_a_hidden_binding() {
    let mut case = Case::new().await;
    let eve = Principal::user("eve");
    case.add_user("eve").await;
    case.grant("eve", Role::Maintain, "qa/**").await;
    case.bind("secret", "dev/**", "qa/{name}", no_criticals()).await;
    let back = owned_by("eve", "back", "qa/**", "dev/{name}");
    let told = async || bind::bind(&case.app, &eve, back.clone(), None).await.unwrap_err().to_string();
    let hidden = told().await;
    assert!(hidden.contains("`back` promotes to `dev/{name}:%n`, which another binding"), "{hidden}");
    assert!(!hidden.contains("secret") && !hidden.contains("`qa/{name}"), "{hidden}");
    case.grant("eve", Role::Read, "dev/**").await;
    let seen = told().await;
    assert!(seen.contains("which `secret` promotes to `qa/{name}:%n`"), "{seen}");
    case.stop().await;
}

/// Regression: it said where an image would go that an immutable tag keeps it from.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_meets_an_immutable_tag() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    for (at, content) in [("dev/app:1", "x"), ("dev/app:2", "y"), ("qa/app:1", "other"), ("qa/app:2", "y")] {
        case.push(at, content, &[("zlib", "1")]).await;
    }
    case.until_idle().await;
    let qa = &stage_of("qa/app:1").repository;
    let immutable = &RepoSetting { immutable_tags: vec!["*".into()] };
    case.app.store.act(async |mut tx| setting::put(&mut tx, qa, immutable)).await.unwrap();
    let binding = binding("x", "dev/*", &[("qa/{name}", "%n")], no_criticals());
    let run = dry_run::dry_run(&case.app, &Principal::user("admin"), &binding, None, 10).await.unwrap();
    assert_eq!(run.tags[0].to, Vec::<String>::new());
    assert_eq!(run.tags[0].reasons.last().unwrap().code, "immutable");
    // What it points to already is no move.
    assert_eq!(run.tags[1].to, ["qa/app:2"]);
    case.stop().await;
}

/// Regression: a dry run read the names of all repositories, whoever asked, and the place where it went on could name one.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_looks_at_so_many_names_and_tells_of_none_that_is_hidden() {
    let mut case = Case::new().await;
    case.push_unscanned("z/app:1", "x").await;
    case.until_idle().await;
    let hidden: Vec<RepoName> =
        (0..dry_run::LOOKED_AT_MAX + 500).map(|n| format!("m/secret{n:05}").parse().unwrap()).collect();
    for names in hidden.chunks(1000) {
        let row = RepoRow { created_at_ms: 0, created_by: "admin".into() };
        let put = async |mut tx: wharf_store::Tx| {
            names.iter().try_for_each(|name| tx.put_value(&row::repo(name), &row))
        };
        case.app.store.act(put).await.unwrap();
    }
    let check = async |grant: &str, expected: usize| {
        let who = Principal::user(grant.replace(['*', '/'], "x"));
        case.grant(&who.name, Role::Read, grant).await;
        let all = binding("x", "**", &[("qa/{name}", "%n")], no_criticals());
        let (mut runs, mut after, mut found) = (0, None, Vec::new());
        while runs == 0 || after.is_some() {
            let run = dry_run::dry_run(&case.app, &who, &all, after.as_deref(), 10).await.unwrap();
            assert!(!run.next.as_ref().is_some_and(|next| next.contains("secret")), "{run:?}");
            found.extend(run.tags.into_iter().map(|would| would.repository.to_string()));
            (runs, after) = (runs + 1, run.next);
        }
        assert_eq!((found, runs), (vec!["z/app".to_owned()], expected), "{grant}");
    };
    check("z/*", 1).await;
    check("*/app", 2).await;
    case.stop().await;
}
