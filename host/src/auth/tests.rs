//! Who somebody is, over the in-memory store, with accounts made by the flows that make them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wharf_store::{Model, Store};

use super::*;
use crate::config::Config;
use crate::flow;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Case {
    app: App,
    admin: Principal,
    password: String,
    _data: TempDir,
}

impl Case {
    async fn new() -> Self {
        let data = TempDir::new().unwrap();
        let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
        let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
        let first = flow::account::first_start(&app).await.unwrap().unwrap();
        Case { app, admin: Principal::user("admin"), password: first.password, _data: data }
    }

    async fn basic(&self, user: &str, password: &str) -> Result<Identity, AuthError> {
        let credentials = Credentials::Basic { user: user.into(), password: password.into() };
        identify(&self.app, &credentials, HERE).await
    }

    async fn bearer(&self, token: &str) -> Result<Identity, AuthError> {
        identify(&self.app, &Credentials::Bearer(token.into()), HERE).await
    }

    /// A bearer token as `/token` signs it for this identity.
    fn sign(&self, identity: &Identity) -> String {
        let (password_rev, token_id) = match &identity.proof {
            Proof::Password(rev) => (Some(rev.0), None),
            Proof::AccessToken(id) => (None, Some(id.clone())),
            Proof::None | Proof::Bearer => (None, None),
        };
        let now_s = self.app.now_ms() / 1000;
        let bearer = Bearer {
            subject: identity.principal.name.clone(),
            kind: Kind::Access,
            issued_at_s: now_s,
            expires_at_s: now_s + 60,
            scopes: None,
            password_rev,
            token_id,
        };
        self.app.auth.signer.sign(&bearer).unwrap()
    }

    async fn token(&self, user: &str, name: &str) -> String {
        let (text, _) = flow::token::create(
            &self.app,
            &self.admin,
            &user.parse().unwrap(),
            &name.parse().unwrap(),
            Some(vec!["dev/*:pull".parse().unwrap()]),
            Duration::from_secs(3600),
        )
        .await
        .unwrap();
        text.reveal().to_owned()
    }
}

#[tokio::test]
async fn the_first_password_works_until_it_is_changed() {
    let case = Case::new().await;
    let file = case.app.config.data.join("initial-admin-password");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), case.password);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(flow::account::first_start(&case.app).await.unwrap().is_none());
    case.basic("admin", &case.password).await.unwrap();
    flow::account::set_password(&case.app, &case.admin, &"admin".parse().unwrap(), "another one")
        .await
        .unwrap();
    assert!(!file.exists());
    assert!(matches!(case.basic("admin", &case.password).await, Err(AuthError::Wrong)));
    case.basic("admin", "another one").await.unwrap();
}

#[tokio::test]
async fn a_reset_gives_the_administrator_everything_back() {
    let case = Case::new().await;
    let (app, admin) = (&case.app, &case.admin);
    let (alice, name) = ("alice".parse().unwrap(), "admin".parse().unwrap());
    flow::account::add_user(app, admin, &alice, Some("alice's own")).await.unwrap();
    let grant = access::Grant {
        subject: "user:alice".parse().unwrap(),
        role: access::Role::Admin,
        pattern: wharf_oci::RepoPattern::all(),
    };
    flow::grant::add(app, admin, &grant).await.unwrap();
    flow::account::remove_user(app, &Principal::user("alice"), &name).await.unwrap();
    assert!(matches!(case.basic("admin", &case.password).await, Err(AuthError::Wrong)));
    let reset = flow::account::reset_admin(app).await.unwrap();
    let admin = case.basic("admin", &reset.password).await.unwrap();
    let view = access::view(app, &admin.principal).await.unwrap();
    assert_eq!(view.judge_server(), access::Answer::Allowed);
}

#[tokio::test]
async fn wrong_is_wrong_in_one_way() {
    let case = Case::new().await;
    for (user, password) in [("admin", "wrong"), ("nobody", "wrong"), ("NO NAME", "wrong"), ("system", "")] {
        let error = case.basic(user, password).await.unwrap_err();
        assert!(matches!(error, AuthError::Wrong), "{user}: {error}");
    }
    assert!(matches!(case.basic("admin", "wharf_pat_none").await, Err(AuthError::Token)));
    assert!(matches!(case.bearer("wharf_pat_none").await, Err(AuthError::Token)));
    assert!(matches!(case.bearer("a.b.c").await, Err(AuthError::Bearer(_))));
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_guesser_alone() {
    let case = Case::new().await;
    flow::account::add_user(&case.app, &case.admin, &"alice".parse().unwrap(), Some("alice's own"))
        .await
        .unwrap();
    case.basic("alice", "alice's own").await.unwrap();
    for _ in 0..6 {
        let _ = case.basic("alice", "wrong").await;
    }
    assert!(matches!(case.basic("alice", "wrong").await, Err(AuthError::Throttled { .. })));
    // Known a moment ago: clients at work are not cut off by somebody behind the same address.
    case.basic("alice", "alice's own").await.unwrap();
    case.basic("admin", &case.password).await.unwrap();
}

/// A burst of guesses must not slip past the throttle before the first of them has failed.
#[tokio::test]
async fn guesses_at_once_are_slowed_down_like_those_one_after_the_other() {
    let case = Case::new().await;
    let guesses = (0..40).map(|n| {
        let app = case.app.clone();
        tokio::spawn(async move {
            let credentials = Credentials::Basic { user: "admin".into(), password: format!("guess {n}") };
            identify(&app, &credentials, HERE).await
        })
    });
    let mut answered = 0;
    for guess in guesses.collect::<Vec<_>>() {
        answered += usize::from(matches!(guess.await.unwrap(), Err(AuthError::Wrong)));
    }
    // Five are free, one more starts the pause, and one may be hashed beside it.
    assert!((5..=7).contains(&answered), "{answered} guesses were answered");
}

#[tokio::test]
async fn an_access_token_is_its_users_and_narrower() {
    let case = Case::new().await;
    let token = case.token("admin", "ci").await;
    for identity in [case.basic("whoever", &token).await.unwrap(), case.bearer(&token).await.unwrap()] {
        assert_eq!(identity.principal.name, "admin");
        assert_eq!(identity.principal.scopes.unwrap()[0].to_string(), "dev/*:pull");
    }
    assert!(case.bearer(&format!("{token}x")).await.is_err());
}

#[tokio::test]
async fn what_a_bearer_stands_on_ends_it() {
    let case = Case::new().await;
    let (app, admin) = (&case.app, &case.admin);
    let alice: UserName = "alice".parse().unwrap();
    flow::account::add_user(app, admin, &alice, Some("alice's own")).await.unwrap();

    let by_password = case.sign(&case.basic("alice", "alice's own").await.unwrap());
    case.bearer(&by_password).await.unwrap();
    flow::account::set_password(app, admin, &alice, "alice's new one").await.unwrap();
    assert!(matches!(case.bearer(&by_password).await, Err(AuthError::Token)));

    let text = case.token("alice", "ci").await;
    let by_token = case.sign(&case.bearer(&text).await.unwrap());
    case.bearer(&by_token).await.unwrap();
    flow::token::revoke(app, admin, &alice, &"ci".parse().unwrap()).await.unwrap();
    assert!(matches!(case.bearer(&by_token).await, Err(AuthError::Token)));
    assert!(matches!(case.bearer(&text).await, Err(AuthError::Token)));

    let by_password = case.sign(&case.basic("alice", "alice's new one").await.unwrap());
    flow::account::set_suspended(app, admin, &alice, true).await.unwrap();
    assert!(matches!(case.bearer(&by_password).await, Err(AuthError::Suspended)));
    assert!(matches!(case.basic("alice", "alice's new one").await, Err(AuthError::Suspended)));
    flow::account::set_suspended(app, admin, &alice, false).await.unwrap();
    case.bearer(&by_password).await.unwrap();
    flow::account::remove_user(app, admin, &alice).await.unwrap();
    assert!(matches!(case.bearer(&by_password).await, Err(AuthError::Token)));
}

#[test]
fn user_names() {
    for name in ["alice", "a", "0x", "ci-bot.1_2"] {
        name.parse::<UserName>().unwrap();
    }
    for name in ["", "Alice", "-x", "a b", "a/b", "anonymous", "system", "user", &"a".repeat(65)] {
        assert!(name.parse::<UserName>().is_err(), "`{name}`");
    }
}
