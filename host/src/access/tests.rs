use std::sync::Arc;

use wharf_oci::RepoName;
use wharf_store::{Model, Store};

use super::*;

fn store() -> Store {
    Store::new(Arc::new(Model::default()))
}

fn grant(text: &str) -> Grant {
    let parts: Vec<&str> = text.split(' ').collect();
    Grant {
        subject: parts[0].parse().unwrap(),
        role: parts[1].parse().unwrap(),
        pattern: parts[2].parse().unwrap(),
    }
}

async fn with<T, E: From<StoreError> + std::fmt::Debug>(
    store: &Store,
    f: impl AsyncFn(&mut wharf_store::Tx) -> Result<T, E>,
) -> Result<T, E> {
    let f = &f;
    store.act(|mut tx| async move { f(&mut tx).await }).await.map(|(value, _)| value)
}

async fn give(store: &Store, text: &str) {
    with(store, async |tx| add(tx, &grant(text), "admin").await).await.unwrap();
}

struct Case<'a> {
    store: &'a Store,
    grants: &'a Grants,
}

impl Case<'_> {
    async fn check(&self, who: &Principal, action: Action, repository: &str, expected: Answer) {
        let repository: RepoName = repository.parse().unwrap();
        let view = View::new(self.grants.current(self.store).await.unwrap(), who);
        assert_eq!(view.judge(action, &repository), expected, "{who:?} {action:?} {repository}");
    }
}

#[tokio::test]
async fn nothing_is_allowed_without_a_grant() {
    let (store, grants) = (store(), Grants::default());
    let case = Case { store: &store, grants: &grants };
    case.check(&Principal::anonymous(), Action::Pull, "dev/app", Answer::Refused).await;
    case.check(&Principal::user("alice"), Action::List, "dev/app", Answer::Refused).await;
    case.check(&Principal::system(), Action::Delete, "dev/app", Answer::Allowed).await;
}

#[tokio::test]
async fn roles_and_subjects_add_up() {
    let (store, grants) = (store(), Grants::default());
    let case = Case { store: &store, grants: &grants };
    give(&store, "user:alice write dev/*").await;
    give(&store, "authenticated read shared/**").await;
    give(&store, "anonymous read public/*").await;
    let alice = Principal::user("alice");
    case.check(&alice, Action::Push, "dev/app", Answer::Allowed).await;
    case.check(&alice, Action::Delete, "dev/app", Answer::Refused).await;
    case.check(&alice, Action::Push, "qa/app", Answer::Refused).await;
    case.check(&alice, Action::Pull, "shared/a/b", Answer::Allowed).await;
    case.check(&alice, Action::Pull, "public/x", Answer::Allowed).await;
    let nobody = Principal::anonymous();
    case.check(&nobody, Action::Pull, "public/x", Answer::Allowed).await;
    case.check(&nobody, Action::Pull, "shared/a/b", Answer::Refused).await;
    case.check(&nobody, Action::Push, "public/x", Answer::Refused).await;
}

#[tokio::test]
async fn a_token_narrows_and_never_widens() {
    let (store, grants) = (store(), Grants::default());
    let case = Case { store: &store, grants: &grants };
    give(&store, "user:alice write dev/*").await;
    let scopes = vec!["**:pull".parse().unwrap()];
    let narrow = Principal { name: "alice".into(), scopes: Some(scopes) };
    case.check(&narrow, Action::Pull, "dev/app", Answer::Allowed).await;
    case.check(&narrow, Action::List, "dev/app", Answer::Allowed).await;
    case.check(&narrow, Action::Push, "dev/app", Answer::OutOfScope).await;
    case.check(&narrow, Action::Pull, "qa/app", Answer::Refused).await;
}

#[tokio::test]
async fn a_change_is_in_force_for_the_next_question() {
    let (store, grants) = (store(), Grants::default());
    let case = Case { store: &store, grants: &grants };
    let alice = Principal::user("alice");
    give(&store, "user:root admin **").await;
    for _ in 0..3 {
        case.check(&alice, Action::Pull, "dev/app", Answer::Refused).await;
        give(&store, "user:alice read dev/*").await;
        case.check(&alice, Action::Pull, "dev/app", Answer::Allowed).await;
        with(&store, async |tx| suspend(tx, "alice", "root").await).await.unwrap();
        case.check(&alice, Action::Pull, "dev/app", Answer::Refused).await;
        with(&store, async |tx| unsuspend(tx, "alice").await).await.unwrap();
        case.check(&alice, Action::Pull, "dev/app", Answer::Allowed).await;
        with(&store, async |tx| remove(tx, &grant("user:alice read dev/*")).await).await.unwrap();
    }
    case.check(&alice, Action::Pull, "dev/app", Answer::Refused).await;
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let store = store();
    give(&store, "user:root admin **").await;
    give(&store, "user:alice admin dev/*").await;
    let last =
        |result: Result<(), GrantError>| assert!(matches!(result, Err(GrantError::LastAdmin)), "{result:?}");
    last(with(&store, async |tx| remove(tx, &grant("user:root admin **")).await).await);
    last(with(&store, async |tx| suspend(tx, "root", "root").await).await);
    last(with(&store, async |tx| remove_all(tx, "root").await).await);
    give(&store, "user:alice admin **").await;
    with(&store, async |tx| remove_all(tx, "root").await).await.unwrap();
    last(with(&store, async |tx| remove_all(tx, "alice").await).await);
}

#[tokio::test]
async fn administering_the_server_takes_all_of_it() {
    let (store, grants) = (store(), Grants::default());
    give(&store, "user:root admin **").await;
    give(&store, "user:alice admin dev/**").await;
    let judge = async |who: &Principal| View::new(grants.current(&store).await.unwrap(), who).judge_server();
    assert_eq!(judge(&Principal::user("root")).await, Answer::Allowed);
    assert_eq!(judge(&Principal::user("alice")).await, Answer::Refused);
    let narrow = Principal { name: "root".into(), scopes: Some(vec!["dev/**:*".parse().unwrap()]) };
    assert_eq!(judge(&narrow).await, Answer::OutOfScope);
    let whole = Principal { name: "root".into(), scopes: Some(vec!["**:*".parse().unwrap()]) };
    assert_eq!(judge(&whole).await, Answer::Allowed);
}

#[tokio::test]
async fn lists_look_only_where_something_may_be_seen() {
    let (store, grants) = (store(), Grants::default());
    give(&store, "user:alice read team/*").await;
    give(&store, "user:alice write team/web/**").await;
    give(&store, "authenticated read shared/app").await;
    give(&store, "anonymous read pub*/x").await;
    give(&store, "user:root admin **").await;
    let check = async |who: &Principal, action: Action, within: &str, expected: &[&str]| {
        let view = View::new(grants.current(&store).await.unwrap(), who);
        assert_eq!(view.beginnings(action, within), expected, "{who:?} {action:?} `{within}`");
    };
    let alice = &Principal::user("alice");
    check(alice, Action::List, "", &["pub", "shared/app", "team/"]).await;
    check(alice, Action::Push, "", &["team/web/"]).await;
    check(alice, Action::List, "team/web/x", &["team/web/x"]).await;
    check(alice, Action::List, "s", &["shared/app"]).await;
    check(alice, Action::List, "other/", &[]).await;
    check(&Principal::anonymous(), Action::List, "", &["pub"]).await;
    check(&Principal::user("root"), Action::List, "", &[""]).await;
    check(&Principal::system(), Action::Pull, "dev/", &["dev/"]).await;
    let scopes = ["team/a*:pull", "shared/**:pull", "pub*/**:push"].map(|scope| scope.parse().unwrap());
    let narrow = Principal { name: "alice".into(), scopes: Some(scopes.into()) };
    check(&narrow, Action::Pull, "", &["shared/app", "team/a"]).await;
    with(&store, async |tx| suspend(tx, "alice", "root").await).await.unwrap();
    check(alice, Action::List, "", &[]).await;
}

#[test]
fn scopes_show_as_they_are_written() {
    for text in ["dev/*:pull", "dev/*:pull,push", "**:*", "a/b:delete"] {
        assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
    }
    for text in ["dev/*", "dev/*:", "dev/*:fly", ":pull", "DEV:pull"] {
        assert!(text.parse::<Scope>().is_err(), "`{text}`");
    }
}
