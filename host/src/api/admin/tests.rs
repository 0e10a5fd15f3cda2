//! The description and the routes are of one mind.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use tower::ServiceExt as _;
use wharf_store::{Model, Store};

use super::*;
use crate::access::Principal;
use crate::config::Config;
use crate::flow;

/// Every operation that is described, with its path.
fn operations() -> Vec<(Method, String, utoipa::openapi::path::Operation)> {
    let mut all = Vec::new();
    for (path, item) in openapi().paths.paths {
        let of = [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::PUT, item.put),
            (Method::DELETE, item.delete),
        ];
        let named = of.into_iter().filter_map(|(method, operation)| Some((method, path.clone(), operation?)));
        all.extend(named);
    }
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
    body: &'static str,
) -> StatusCode {
    let mut request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    if let Some(login) = login {
        request = request.header("authorization", login);
    }
    let router = routes(app.clone()).with_state(app.clone());
    router.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status()
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
                let status = answer(&app, &method, &uri, login, body).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "`{method} {uri}` with {login:?} and `{body}`");
            }
        }
    }
}

#[tokio::test]
async fn what_is_for_administrators_is_refused_to_others_whatever_is_sent() {
    let (app, _data) = app();
    flow::account::first_start(&app).await.unwrap();
    let (admin, alice) = (Principal::user("admin"), "alice".parse().unwrap());
    flow::account::add_user(&app, &admin, &alice, None).await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let token = flow::token::create(&app, &admin, &alice, &"t".parse().unwrap(), None, hour).await.unwrap();
    let login = format!("Bearer {}", token.0.reveal());
    let mut checked = 0;
    for (method, path, operation) in operations() {
        let about = [operation.summary, operation.description].map(Option::unwrap_or_default).join(" ");
        if !about.contains("For administrators.") {
            continue;
        }
        checked += 1;
        for (query, body) in GARBAGE {
            let uri = format!("{}{query}", path.replace(['{', '}'], ""));
            let status = answer(&app, &method, &uri, Some(&login), body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "`{method} {uri}` with `{body}`");
        }
    }
    assert!(checked > 10, "{checked} operations are for administrators");
}

/// A user with a narrowed token was told that it does not administer the server, which it had not tried.
#[tokio::test]
async fn a_narrowed_token_hears_that_the_token_is_in_the_way() {
    let (app, _data) = app();
    flow::account::first_start(&app).await.unwrap();
    let (admin, alice) = (Principal::user("admin"), "alice".parse().unwrap());
    flow::account::add_user(&app, &admin, &alice, None).await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let scopes = vec!["dev/*:pull".parse().unwrap()];
    let name = "t".parse().unwrap();
    let token = flow::token::create(&app, &admin, &alice, &name, Some(scopes), hour).await.unwrap();
    let login = format!("Bearer {}", token.0.reveal());
    let request = Request::get("/api/v1/users/alice").header("authorization", login);
    let router = routes(app.clone()).with_state(app.clone());
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    let error: crate::api::ErrorBody = serde_json::from_slice(&body).unwrap();
    assert_eq!(error.error.message, "`alice` may not use its own account with this token");
}
