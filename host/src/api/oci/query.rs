//! The query of a request.

use http::Uri;

use super::error::{Code, OciError};

/// Longest query that is looked at, in bytes: at least ten tags of 128 bytes and two digests fit.
const QUERY_BYTES_MAX: usize = 8192;

/// Decoded pairs, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(uri: &Uri) -> Result<Query, OciError> {
        match uri.query() {
            None => Ok(Query::default()),
            Some(query) if query.len() > QUERY_BYTES_MAX => {
                Err(OciError::new(Code::UriTooLong, "the query is longer than 8,192 bytes"))
            }
            Some(_) => match axum::extract::Query::try_from_uri(uri) {
                Ok(axum::extract::Query(pairs)) => Ok(Query(pairs)),
                Err(_) => Err(OciError::new(Code::QueryInvalid, "the query is not `key=value&…`")),
            },
        }
    }

    /// The first value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// `n`, the number of entries wanted; larger numbers than `max` are lowered to it.
    pub(super) fn n(&self, max: usize) -> Result<usize, OciError> {
        let Some(n) = self.get("n") else { return Ok(max) };
        let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(OciError::new(Code::QueryInvalid, "`n` is not a number"));
        }
        // More digits than fit are more than the maximum, too.
        Ok(n.parse().unwrap_or(max).min(max))
    }
}

/// Writes a value so that it can stand in a query (RFC 3986, section 2.3).
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Query {
        Query::parse(&format!("/v2/?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn values_are_decoded_and_repeated() {
        let query = parse("tag=1.2&tag=a%2Bb&n=7&empty=");
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1.2", "a+b"]);
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.n(1000).unwrap(), 7);
        assert_eq!(parse("n=0").n(10).unwrap(), 0);
        assert_eq!(parse("n=99999999999999999999999").n(10).unwrap(), 10);
        assert!(parse("n=-1").n(10).is_err());
        assert!(parse("n=").n(10).is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        let text = "application/vnd.a+json;x=\"&%";
        assert_eq!(parse(&format!("a={}", encode(text))).get("a"), Some(text));
    }
}
