//! The description and the routes are of one mind.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use wharf_oci::{Digest, MediaType, Target};
use wharf_store::{Model, Store};

use super::*;
use crate::access::Principal;
use crate::config::Config;
use crate::flow;
use crate::flow::push::Push;

/// Every operation that is described, with its path.
fn operations() -> Vec<(Method, String, utoipa::openapi::path::Operation)> {
    let all: Vec<_> = query::operations().collect();
    assert!(all.len() > 30, "{} operations", all.len());
    all
}

#[test]
fn every_operation_has_a_summary_and_says_how_it_fails() {
    for (method, path, operation) in operations() {
        assert!(operation.summary.is_some(), "`{method} {path}` does not say what it does");
        let mut statuses = vec!["400", "401", "403", "429", "503"];
        let body = operation.request_body.iter().flat_map(|body| body.content.keys());
        statuses.extend(body.filter(|kind| *kind == "application/json").flat_map(|_| ["413", "415"]));
        for status in statuses {
            assert!(operation.responses.responses.contains_key(status), "`{method} {path}` lacks {status}");
        }
    }
}

/// `at-ms` stood beside `at_ms`. What is stored as evidence keeps its bytes, and is given as it is.
#[test]
fn names_have_underscores_but_for_stored_evidence() {
    fn dashed(value: &Value, found: &mut Vec<String>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            if key == "properties" {
                let names = inner.as_object().into_iter().flat_map(|fields| fields.keys());
                found.extend(names.filter(|name| name.contains('-')).cloned());
            }
            dashed(inner, found);
        }
        value.as_array().into_iter().flatten().for_each(|item| dashed(item, found));
    }
    let document = serde_json::to_value(openapi()).unwrap();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let mut found = Vec::new();
        dashed(schema, &mut found);
        let is_evidence = ["Decision", "Page_Decision", "Authority", "Judged"].contains(&name.as_str());
        assert_eq!(!found.is_empty(), is_evidence, "`{name}` has {found:?}");
    }
}

fn app() -> (App, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
    (App::over(config, Store::new(Arc::new(Model::default()))).unwrap(), data)
}

/// What an operation answers to whoever `login` proves.
async fn answer(
    app: &App,
    method: &Method,
    uri: &str,
    login: Option<&str>,
    body: &str,
) -> (StatusCode, String) {
    let mut request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    if let Some(login) = login {
        request = request.header("authorization", login);
    }
    let router = routes(app.clone()).with_state(app.clone());
    let response = router.oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// What an error says.
fn error(body: &str) -> crate::api::ErrorText {
    serde_json::from_str::<crate::api::ErrorBody>(body).unwrap().error
}

/// A bearer of a user's token, as it stands in a request's head.
async fn bearer(app: &App, user: &str, scopes: Option<Vec<crate::access::Scope>>) -> String {
    let (admin, hour) = (Principal::user("admin"), std::time::Duration::from_secs(3600));
    let (user, name) = (user.parse().unwrap(), "t".parse().unwrap());
    let (text, _) = flow::token::create(app, &admin, &user, &name, scopes, hour).await.unwrap();
    format!("Bearer {}", text.reveal())
}

/// A bearer of a user without rights.
async fn alice(app: &App, scopes: Option<Vec<crate::access::Scope>>) -> String {
    flow::account::first_start(app).await.unwrap();
    let (admin, alice) = (Principal::user("admin"), "alice".parse().unwrap());
    flow::account::add_user(app, &admin, &alice, None).await.unwrap();
    bearer(app, "alice", scopes).await
}

/// Regression: a route that was left out of the description was told of nowhere, and passed.
#[tokio::test]
async fn every_route_is_described_and_all_that_is_described_is_there() {
    let (app, _data) = app();
    let login = alice(&app, None).await;
    // axum tells its routes nowhere else. Where it tells them no more, none of those described is found.
    let told = format!("{:?}", routes(app.clone()));
    let paths: BTreeSet<&str> = told.split('"').filter(|text| text.starts_with("/api/v1/")).collect();
    let mut routed = BTreeSet::new();
    for path in paths {
        let uri = path.replace(['{', '}'], "");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if answer(&app, &method, &uri, Some(&login), "").await.0 != StatusCode::METHOD_NOT_ALLOWED {
                routed.insert(format!("{method} {path}"));
            }
        }
    }
    let described: BTreeSet<String> =
        operations().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(routed, described);
}

/// What of a request can be wrong before anybody is asked who sends it.
const GARBAGE: [(&str, &str); 3] = [("", ""), ("?limit=x&cursor=%00&image=&number", "{\"a\":"), ("", "[1]")];

#[tokio::test]
async fn a_stranger_is_told_to_log_in_whatever_is_sent() {
    let (app, _data) = app();
    for (method, path, _) in operations() {
        for (query, body) in GARBAGE {
            let uri = format!("{}{query}", path.replace(['{', '}'], ""));
            for login in [None, Some("Bearer wharf_pat_nobody"), Some("Digest x")] {
                let (status, _) = answer(&app, &method, &uri, login, body).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "`{method} {uri}` with {login:?} and `{body}`");
            }
        }
    }
}

#[tokio::test]
async fn what_is_for_administrators_is_refused_to_others_whatever_is_sent() {
    let (app, _data) = app();
    let login = alice(&app, None).await;
    let mut checked = 0;
    for (method, path, operation) in operations() {
        let about = [operation.summary, operation.description].map(Option::unwrap_or_default).join(" ");
        if !about.contains("For administrators.") {
            continue;
        }
        checked += 1;
        for (query, body) in GARBAGE {
            let uri = format!("{}{query}", path.replace(['{', '}'], ""));
            let (status, _) = answer(&app, &method, &uri, Some(&login), body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "`{method} {uri}` with `{body}`");
        }
    }
    assert!(checked > 10, "{checked} operations are for administrators");
}

/// A user with a narrowed token was told that it does not administer the server, which it had not tried.
#[tokio::test]
async fn a_narrowed_token_hears_that_the_token_is_in_the_way() {
    let (app, _data) = app();
    let login = alice(&app, Some(vec!["dev/*:pull".parse().unwrap()])).await;
    let (status, body) = answer(&app, &Method::GET, "/api/v1/users/alice", Some(&login), "").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(error(&body).message, "`alice` may not use its own account with this token");
}

/// `?quue=scan` listed the jobs of all queues.
#[tokio::test]
async fn a_parameter_that_an_operation_does_not_have_is_refused() {
    let (app, _data) = app();
    flow::account::first_start(&app).await.unwrap();
    let login = bearer(&app, "admin", None).await;
    let refused = async |method: Method, uri: &str| {
        let (status, body) = answer(&app, &method, uri, Some(&login), "{}").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "`{method} {uri}` answers {body}");
        assert_eq!(error(&body).message, "there is no parameter `quue`", "`{method} {uri}` answers {body}");
        error(&body).hint.unwrap()
    };
    for (method, path, _) in operations() {
        refused(method, &format!("{}?quue=scan", path.replace(['{', '}'], ""))).await;
    }
    let hint = refused(Method::GET, "/api/v1/jobs?limit=5&quue=scan").await;
    assert_eq!(hint, "this request takes `queue`, `state`, `limit`, `cursor`");
    assert_eq!(refused(Method::GET, "/api/v1/status?quue=scan").await, "this request takes none");
    for method in [Method::GET, Method::HEAD] {
        let (status, body) = answer(&app, &method, "/api/v1/jobs?queue=scan", Some(&login), "").await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}

/// `PUT /api/v1/repositories` and `POST /api/v1/jobs/…` let any field pass, also one with a slip in its name, and
/// `POST /api/v1/grants` took `["user:admin", "read", "dev/*"]`.
#[tokio::test]
async fn a_field_that_a_body_does_not_have_is_refused() {
    let (app, _data) = app();
    flow::account::first_start(&app).await.unwrap();
    let login = bearer(&app, "admin", None).await;
    let mut checked = 0;
    for (method, path, operation) in operations() {
        let mut kinds = operation.request_body.iter().flat_map(|body| body.content.keys());
        if !kinds.any(|kind| kind == "application/json") {
            continue;
        }
        checked += 1;
        let uri = path.replace(['{', '}'], "");
        // serde reads a struct from an array, too: its fields by their places.
        for (body, expected) in [(r#"{"quue":1}"#, "unknown field `quue`"), ("[]", "expected an object")] {
            let (status, body) = answer(&app, &method, &uri, Some(&login), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "`{method} {uri}` answers {body}");
            let says = error(&body).message;
            assert!(says.contains(expected), "`{method} {uri}` says {says}");
        }
    }
    assert!(checked > 10, "{checked} operations take JSON");
}

/// `wharf policy bind … --dry-run` passed a plugin that is not there and a config that it refuses.
#[tokio::test]
async fn a_dry_run_refuses_what_bind_refuses() {
    let (app, _data) = app();
    flow::account::first_start(&app).await.unwrap();
    let login = bearer(&app, "admin", None).await;
    let binding = r#"{"repositories":"dev/*","policies":[{"plugin":"gone"}],
        "targets":[{"name":"qa","repository":"qa/{name}"}]}"#;
    let trial = format!(r#"{{"binding":{binding}}}"#);
    let bound = answer(&app, &Method::PUT, "/api/v1/bindings/to-qa", Some(&login), binding).await;
    let tried = answer(&app, &Method::POST, "/api/v1/bindings/dry-run", Some(&login), &trial).await;
    assert_eq!((bound.0, tried.0), (StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST), "{}", tried.1);
    assert_eq!(error(&tried.1).message, error(&bound.1).message);
    assert_eq!(error(&tried.1).message, "there is no plugin `gone`");
}

/// Regression: an index within an index, and a platform that is not here, waited for their scan for ever.
#[tokio::test]
async fn only_what_somebody_is_going_to_scan_waits_for_it() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
    config.registry.sparse = vec!["**".parse().unwrap()];
    let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
    flow::account::first_start(&app).await.unwrap();
    let admin = Principal::user("admin");
    let push = async |tag: &str, manifest: Value| {
        let (media_type, bytes) = (manifest["mediaType"].clone(), manifest.to_string());
        let (size, target) = (bytes.len(), Target::Tag(tag.parse().unwrap()));
        let repository = "dev/app".parse().unwrap();
        let push = Push { repository, target, tags: Vec::new(), content_type: None, bytes: bytes.into() };
        let pushed = flow::push::manifest(&app, &admin, &push).await.unwrap();
        json!({"mediaType": media_type, "digest": pushed.digest, "size": size})
    };
    let index = |manifests: Value| json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    let absent =
        |media_type: &str| json!({"mediaType": media_type, "digest": Digest::sha256(b"absent"), "size": 6});
    let image = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": absent(MediaType::OCI_CONFIG), "layers": []});
    let image = push("image", image).await;
    let inner = push("inner", index(json!([image]))).await;
    push("outer", index(json!([image, inner]))).await;
    push("sparse", index(json!([absent(MediaType::OCI_MANIFEST)]))).await;
    let login = bearer(&app, "admin", None).await;
    let (status, body) = answer(&app, &Method::GET, "/api/v1/images", Some(&login), "").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let page: Page<ImageEntry> = serde_json::from_str(&body).unwrap();
    let scan = |entry: &ImageEntry| (entry.tag.clone(), entry.scan.state.clone(), entry.scan.why.clone());
    let row = |tag: &str, state: &str, why: Option<&str>| {
        (tag.to_owned(), state.to_owned(), why.map(str::to_owned))
    };
    assert_eq!(
        page.items.iter().map(scan).collect::<Vec<_>>(),
        [
            row("image", "pending", None),
            row("inner", "pending", None),
            row("outer", "none", Some("an index within an index is not scanned")),
            row("sparse", "none", Some("its manifest is not here")),
        ]
    );
}
