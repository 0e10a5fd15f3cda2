//! The description and the routes are of one mind.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use tower::ServiceExt as _;
use wharf_store::{Model, Store};

use super::*;
use crate::config::Config;

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
        for status in ["400", "401", "403", "503"] {
            assert!(operation.responses.responses.contains_key(status), "`{method} {path}` lacks {status}");
        }
    }
}

#[tokio::test]
async fn every_operation_is_routed_and_none_is_for_strangers() {
    let data = tempfile::tempdir().unwrap();
    let config = Config::new(data.path(), ([127, 0, 0, 1], 0).into());
    let app = App::over(config, Store::new(Arc::new(Model::default()))).unwrap();
    let router = routes().with_state(app);
    for (method, path, operation) in operations() {
        let mut uri = path.replace("{number}", "1").replace(['{', '}'], "");
        let asked = operation.parameters.iter().flatten();
        for (at, parameter) in
            asked.filter(|p| p.parameter_in == utoipa::openapi::path::ParameterIn::Query).enumerate()
        {
            let value = match parameter.name.as_str() {
                "image" => "dev/app:1",
                "limit" | "wait_s" => "1",
                "order" => "newest",
                "cursor" => continue,
                _ => "x",
            };
            uri.push_str(&format!("{}{}={value}", if at == 0 { "?" } else { "&" }, parameter.name));
        }
        let request = Request::builder().method(method.clone()).uri(&uri).body(Body::empty()).unwrap();
        let status = router.clone().oneshot(request).await.unwrap().status();
        // What names nothing or cannot be read may be refused before it is known who asks; nothing is ever told.
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::BAD_REQUEST, StatusCode::UNSUPPORTED_MEDIA_TYPE];
        assert!(refused.contains(&status), "`{method} {uri}` was answered by {status}");
    }
}
