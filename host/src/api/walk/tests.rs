use std::sync::Arc;

use axum::body::Body;
use http::header::LINK;
use http::{Request, StatusCode};
use tower::ServiceExt as _;
use wharf_store::{Model, Store};

use super::*;
use crate::access::{self, Principal};
use crate::auth::SEALED;
use crate::config::Config;
use crate::flow;
use crate::registry::row;

/// Repositories that alice may not see: more than one request looks at.
const FOREIGN: usize = LOOKED_AT_MAX + 500;

struct World {
    app: App,
    login: String,
    _data: tempfile::TempDir,
}

impl World {
    /// `m/…`, which only the administrator may see, between `a/app` and `z/app`, which alice may as far as `grants` say so.
    async fn new(grants: &[&str]) -> World {
        let data = tempfile::tempdir().unwrap();
        let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
        let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
        flow::account::first_start(&app).await.unwrap();
        let (admin, alice) = (Principal::user("admin"), "alice".parse().unwrap());
        flow::account::add_user(&app, &admin, &alice, None).await.unwrap();
        for pattern in grants {
            let (subject, role) = ("user:alice".parse().unwrap(), access::Role::Read);
            let grant = access::Grant { subject, role, pattern: pattern.parse().unwrap() };
            flow::grant::add(&app, &admin, &grant).await.unwrap();
        }
        let hour = std::time::Duration::from_secs(3600);
        let token = flow::token::create(&app, &admin, &alice, &"t".parse().unwrap(), None, hour).await;
        let login = format!("Bearer {}", token.unwrap().0.reveal());
        let mut names = vec!["a/app".to_owned(), "z/app".to_owned()];
        names.extend((0..FOREIGN).map(|n| format!("m/secret{n:05}")));
        for names in names.chunks(1000) {
            let act = app.store.act(|mut tx| async move {
                let row = row::RepoRow { created_at_ms: 0, created_by: "admin".into() };
                names.iter().try_for_each(|name| tx.put_value(&row::repo(&name.parse().unwrap()), &row))
            });
            act.await.unwrap();
        }
        World { app, login, _data: data }
    }

    /// The body of a page, and the path of the next one.
    async fn page(&self, path: &str) -> (serde_json::Value, Option<String>) {
        let router = super::super::admin::routes(self.app.clone()).merge(super::super::oci::routes());
        let request = Request::get(path).header("authorization", &self.login).body(Body::empty()).unwrap();
        let answer = router.with_state(self.app.clone()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let link = answer.headers().get(LINK).map(|link| link.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let linked = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
        let (base, _) = path.split_once('?').unwrap_or((path, ""));
        let next = linked.or_else(|| Some(format!("{base}?limit=1&cursor={}", body["next"].as_str()?)));
        (body, next)
    }

    /// All pages of a list, and what they showed.
    async fn pages(&self, path: &str) -> (usize, String) {
        let (mut pages, mut shown, mut path) = (0, String::new(), Some(path.to_owned()));
        while let Some(at) = path.take() {
            let (body, next) = self.page(&at).await;
            shown.push_str(&format!("{body} {}\n", next.as_deref().unwrap_or_default()));
            (pages, path) = (pages + 1, next);
            assert!(pages < 10, "{shown}");
        }
        (pages, shown)
    }
}

const LISTS: [&str; 3] = ["/v2/_catalog?n=1", "/api/v1/repositories?limit=1", "/api/v1/images?limit=1"];

/// A page that ended among them gave the name of one as the place to go on from.
#[tokio::test]
async fn no_page_names_a_repository_that_the_caller_may_not_see() {
    let w = World::new(&["*/app"]).await;
    for path in LISTS {
        let (pages, shown) = w.pages(path).await;
        assert!(pages > 1 && shown.contains(SEALED), "{path}: {shown}");
        assert!(!shown.contains("m/"), "{path}: {shown}");
        // There are no images in them.
        assert_eq!(shown.contains("z/app"), !path.contains("images"), "{path}: {shown}");
    }
}

#[tokio::test]
async fn names_are_read_only_where_grants_begin() {
    let w = World::new(&["a/*", "z/*"]).await;
    let principal = Principal::user("alice");
    let view = access::view(&w.app, &principal).await.unwrap();
    let mut walk = Walk::new(&w.app, &view, Action::List, None, None).unwrap();
    let (names, next) = walk.page(10).await.unwrap();
    assert_eq!(names.iter().map(RepoName::as_str).collect::<Vec<_>>(), ["a/app", "z/app"]);
    assert_eq!((next, walk.looked_at), (None, 2));
    let mut behind = Walk::new(&w.app, &view, Action::List, None, Some("a/app")).unwrap();
    assert_eq!(behind.next().await.unwrap().unwrap().as_str(), "z/app");
    let pattern = "z/*".parse().unwrap();
    let mut only = Walk::new(&w.app, &view, Action::List, Some(&pattern), None).unwrap();
    assert_eq!(only.page(1).await.unwrap().0[0].as_str(), "z/app");
    assert!(Walk::new(&w.app, &view, Action::List, None, Some("~nothing")).is_none());
}
