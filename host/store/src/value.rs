//! What is in a row's value.
//!
//! Rows of concepts are JSON: a later version may add fields, an older one ignores them, and a person can read
//! what is there. Counters and reference counts are fixed binary forms, since engines change them in place.
//!
//! Invariant: a field, once released, keeps its name and meaning; new fields have a default.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::seam::Row;
use crate::store::StoreError;

/// A bounded counter, as [`Op::Add`](crate::Op::Add) changes it: `n` and `max`, each eight bytes, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Counted so far.
    pub n: u64,
    /// Not above this.
    pub max: u64,
}

impl Default for Counter {
    fn default() -> Counter {
        Counter { n: 0, max: u64::MAX }
    }
}

impl Counter {
    /// The row's value.
    pub fn encode(self) -> Bytes {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.n.to_be_bytes());
        out[8..].copy_from_slice(&self.max.to_be_bytes());
        Bytes::copy_from_slice(&out)
    }

    /// Reads a row's value; none if it is no counter.
    pub fn decode(val: &[u8]) -> Option<Counter> {
        let (n, max) = val.split_at_checked(8)?;
        Some(Counter {
            n: u64::from_be_bytes(n.try_into().ok()?),
            max: u64::from_be_bytes(max.try_into().ok()?),
        })
    }

    /// The counter after `delta`, or none where that is out of bounds.
    pub(crate) fn add(self, delta: i64) -> Option<Counter> {
        let n = self.n.checked_add_signed(delta)?;
        (delta <= 0 || n <= self.max).then_some(Counter { n, ..self })
    }
}

/// A reference count, as [`Op::Ref`](crate::Op::Ref) changes it: eight bytes, big-endian; never 0 in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refs {
    /// References there are.
    pub n: u64,
}

impl Refs {
    /// The row's value.
    pub fn encode(self) -> Bytes {
        Bytes::copy_from_slice(&self.n.to_be_bytes())
    }

    /// Reads a row's value; none if it is no reference count.
    pub fn decode(val: &[u8]) -> Option<Refs> {
        Some(Refs { n: u64::from_be_bytes(val.try_into().ok()?) })
    }
}

/// A value as JSON.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, StoreError> {
    let json = serde_json::to_vec(value).map_err(|e| StoreError::Encode(e.to_string()))?;
    Ok(json.into())
}

impl Row {
    /// The value from JSON.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, StoreError> {
        serde_json::from_slice(&self.val)
            .map_err(|e| StoreError::Damaged { key: self.key.clone(), reason: e.to_string() })
    }

    /// The value as a counter.
    pub fn counter(&self) -> Result<Counter, StoreError> {
        let damaged = || StoreError::Damaged { key: self.key.clone(), reason: "not a counter".into() };
        Counter::decode(&self.val).ok_or_else(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_bounds() {
        let c = Counter { n: 3, max: 5 };
        assert_eq!(Counter::decode(&c.encode()), Some(c));
        assert_eq!(c.add(2), Some(Counter { n: 5, max: 5 }));
        assert_eq!(c.add(3), None);
        assert_eq!(c.add(-4), None);
        let over = Counter { n: 9, max: 5 };
        assert_eq!(over.add(-1), Some(Counter { n: 8, max: 5 }));
        assert_eq!(Counter::decode(b"short"), None);
        assert_eq!(Counter::decode(&[0; 17]), None);
    }
}
