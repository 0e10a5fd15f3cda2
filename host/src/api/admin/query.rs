//! Which parameters a query may have: those that the description of its operation names.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::extract::{MatchedPath, Query};
use http::Method;
use http::request::Parts;
use utoipa::openapi::path::{Operation, ParameterIn};

use super::extract::wrong;
use crate::api::ApiError;

/// Characters of an unknown parameter's name that are told.
const NAME_SHOWN: usize = 100;

/// The parameters of each operation, such as `GET /api/v1/jobs`.
static KNOWN: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let known = |(method, path, operation): (Method, String, Operation)| {
        let parameters = operation.parameters.into_iter().flatten();
        let of_query = parameters.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
        (format!("{method} {path}"), of_query.map(|parameter| parameter.name).collect())
    };
    operations().map(known).collect()
});

/// Every operation that is described, with its path.
pub(super) fn operations() -> impl Iterator<Item = (Method, String, Operation)> {
    super::openapi().paths.paths.into_iter().flat_map(|(path, item)| {
        let of = [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::PUT, item.put),
            (Method::DELETE, item.delete),
        ];
        of.into_iter().filter_map(move |(method, operation)| Some((method, path.clone(), operation?)))
    })
}

/// Refuses a parameter that the operation does not have: a filter with a slip in its name would list everything.
pub(super) fn check(parts: &Parts) -> Result<(), ApiError> {
    let given = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
    let Query(given) = given.map_err(|rejection| wrong("query", &rejection.body_text()))?;
    if given.is_empty() {
        return Ok(());
    }
    let path = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let method = match parts.method {
        // axum answers it by the handler of GET.
        Method::HEAD => "GET",
        ref other => other.as_str(),
    };
    let known = KNOWN.get(&format!("{method} {path}")).map(Vec::as_slice).unwrap_or_default();
    let Some((name, _)) = given.iter().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
    let name: String = name.chars().take(NAME_SHOWN).collect();
    let hint = match known {
        [] => "this request takes none".to_owned(),
        known => format!("this request takes `{}`", known.join("`, `")),
    };
    Err(ApiError::invalid(format!("there is no parameter `{name}`; hint: {hint}")))
}
