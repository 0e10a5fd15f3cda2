//! Who sent a request, and what it says, with the REST API's own errors where it says it wrongly.
//!
//! Invariant: a handler's arguments are read in their order, so the caller stands before all that the request says.
//! Invariant: every handler asks who calls, and nobody gets past that whose query has a parameter that no handler reads.

use std::fmt;
use std::marker::PhantomData;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::query;
use crate::App;
use crate::api::{ApiError, Caller};

/// Largest body that is read, in bytes; an import of vulnerability data has a bound of its own.
pub(in crate::api) const BODY_BYTES_MAX: usize = 1 << 20;

/// A caller who administers the server.
#[derive(Debug)]
pub(super) struct Administrator(pub Caller);

/// A JSON body, which is an object.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

/// What is read from a JSON object alone: serde reads a struct from an array, too, its fields by their places.
struct Object<T>(T);

/// The part of a path that names something.
#[derive(Debug)]
pub(super) struct Named<T>(pub T);

/// The query string.
#[derive(Debug)]
pub(super) struct Asked<T>(pub T);

/// Passes whoever has a name to the handler, which finds the [`Caller`] among its arguments. It stands before every route,
/// so that a stranger is told to log in whatever the request says.
pub(super) async fn admit(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::of(&app, &parts).await?;
    caller.require_user()?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = admitted(parts)?;
        query::check(parts)?;
        Ok(caller)
    }
}

fn admitted(parts: &Parts) -> Result<Caller, ApiError> {
    let admitted = parts.extensions.get::<Caller>().cloned();
    admitted.ok_or_else(|| ApiError::internal("a route asks who calls and nobody was admitted to it"))
}

impl FromRequestParts<App> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let caller = admitted(parts)?;
        caller.require_admin(app).await?;
        query::check(parts)?;
        Ok(Administrator(caller))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let read = Json::<Object<T>>::from_request(request, state).await;
        let Json(Object(body)) = read.map_err(|rejection: JsonRejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                let message = "the body is not JSON; hint: send `Content-Type: application/json`";
                ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid", message)
            }
            _ => wrong("body", &rejection.body_text()),
        })?;
        Ok(Body(body))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::from_request_parts(parts, state).await;
        let Path(named) = named.map_err(|rejection: PathRejection| wrong("path", &rejection.body_text()))?;
        Ok(Named(named))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::from_request_parts(parts, state).await;
        let Query(asked) =
            asked.map_err(|rejection: QueryRejection| wrong("query", &rejection.body_text()))?;
        Ok(Asked(asked))
    }
}

/// axum's own words begin with what it could not do; what is wrong comes after the colon.
pub(super) fn wrong(what: &str, text: &str) -> ApiError {
    let why = text
        .split_once(": ")
        .filter(|(before, _)| before.starts_with("Failed to"))
        .map_or(text, |(_, why)| why);
    ApiError::invalid(format!("the {what} is wrong: {}", json_words(why)))
}

/// What serde says is wrong, with what was expected in JSON's words: it speaks of this program's types, such as
/// `struct NewBinding`.
pub(crate) fn json_words(text: &str) -> String {
    let Some((found, rest)) = text.rsplit_once(", expected ") else { return text.to_owned() };
    let (expected, place) = match rest.find(" at line ") {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a sequence" => "an array",
        "a map" => "an object",
        rust if rust.starts_with("struct ") => "an object",
        plain => plain,
    };
    let found = match found.rsplit_once("invalid type: ") {
        Some((before, "sequence")) => format!("{before}invalid type: array"),
        Some((before, "map")) => format!("{before}invalid type: object"),
        _ => found.to_owned(),
    };
    format!("{found}, expected {expected}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::admin::{NewBinding, NewQuota};

    /// `expected struct NewBinding` says nothing to who writes to the API.
    #[test]
    fn what_is_wrong_is_said_in_words_of_json() {
        fn check<T: DeserializeOwned>(json: &str, expected: &str) {
            let error = serde_json::from_str::<T>(json).err().unwrap().to_string();
            assert_eq!(json_words(&error), expected, "{json}");
        }
        check::<NewBinding>("7", "invalid type: integer `7`, expected an object at line 1 column 1");
        check::<NewBinding>(
            r#"{"platforms":{}}"#,
            "invalid type: object, expected an array at line 1 column 13",
        );
        check::<NewBinding>(
            r#"{"repositories":[]}"#,
            "invalid type: array, expected a string at line 1 column 16",
        );
        check::<NewBinding>("[]", "invalid length 0, expected an object at line 1 column 2");
        check::<NewQuota>(
            r#"{"namespace":"dev","max_bytes":"u64, expected struct X"}"#,
            r#"invalid type: string "u64, expected struct X", expected a whole number at line 1 column 55"#,
        );
        check::<NewBinding>("{", "EOF while parsing an object at line 1 column 1");
    }
}
