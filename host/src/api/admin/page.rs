use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::ApiError;

/// Items of a page where the request does not say.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: usize = 1000;

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The next page's `cursor`; absent on the last one. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Items at most.
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before; without it the list's beginning.
    cursor: Option<String>,
}

impl Paging {
    pub(super) fn new(limit: Option<usize>, cursor: Option<String>) -> Self {
        Paging { limit, cursor }
    }

    /// Items at most, within bounds.
    ///
    /// # Errors
    /// Where the request asks for none or too many.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            limit => Err(ApiError::invalid(format!("`limit` is 1 to {LIMIT_MAX}, not {limit}"))),
        }
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The error of a cursor that no page gave.
    pub(super) fn wrong_cursor(&self) -> ApiError {
        let cursor: String = self.cursor.iter().flat_map(|cursor| cursor.chars()).take(100).collect();
        ApiError::invalid(format!(
            "`{cursor}` is not a cursor of this list; hint: use the `next` of a page as it is"
        ))
    }
}
