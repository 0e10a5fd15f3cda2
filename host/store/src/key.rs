//! Keys: which table a row is in, and where in that table it sorts.
//!
//! Invariant: keys of one space compare as plain bytes (`memcmp`), in every engine.
//! Invariant: a space's number and name never change and are never given to another space.

use bytes::Bytes;

/// One kind of row: one redb table, one small integer in SQL.
///
/// The numbers are part of the stored format (`docs/store.md`); new spaces take new numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Facts of the installation: its id, when it was made.
    Meta = 1,
    /// Digest → where the bytes are.
    Blob = 2,
    /// Which repositories hold a blob, and since when.
    Link = 3,
    /// Which manifests of a repository need a blob.
    Mref = 4,
    /// Manifests of a repository.
    Manifest = 5,
    /// Tags of a repository.
    Tag = 6,
    /// Manifests that name another as their subject.
    Referrer = 7,
    /// Repositories.
    Repo = 8,
    /// Bounded counters, such as quotas; values are [`Counter`](crate::Counter).
    Counter = 9,
    /// Reference counts with an edge, see [`Op::Ref`](crate::Op::Ref); values are [`Refs`](crate::Refs).
    Edge = 10,
    /// State changes in commit order.
    Event = 11,
    /// How far each reader of events has come.
    Cursor = 12,
    /// Work to be done.
    Job = 13,
    /// Leadership and other leases.
    Lease = 14,
    /// Accounts.
    User = 15,
    /// Access tokens.
    Token = 16,
    /// Subject × role × resource.
    Grant = 17,
    /// Policy bindings.
    Binding = 18,
    /// Decisions with their evidence.
    Decision = 19,
    /// Promotions done, by promotion key.
    Promotion = 20,
    /// Plugins known, and quarantine.
    Plugin = 21,
    /// Scan reports.
    Scan = 22,
    /// Immutable facts documents.
    Facts = 23,
    /// Blob files that nothing names any more and that may be unlinked.
    Reap = 24,
    /// Refused requests and administrative acts.
    Audit = 25,
    /// Images that wait for an answer.
    Held = 26,
    /// Uploads whose state does not live beside the blob file.
    Upload = 27,
    /// Observations, such as when something was last pulled.
    Access = 28,
    /// Settings changed at run time.
    Setting = 29,
    /// Where an image was promoted to.
    Destination = 30,
}

impl Space {
    /// Every space, by number.
    pub const ALL: [Space; 30] = {
        use Space::*;
        [
            Meta,
            Blob,
            Link,
            Mref,
            Manifest,
            Tag,
            Referrer,
            Repo,
            Counter,
            Edge,
            Event,
            Cursor,
            Job,
            Lease,
            User,
            Token,
            Grant,
            Binding,
            Decision,
            Promotion,
            Plugin,
            Scan,
            Facts,
            Reap,
            Audit,
            Held,
            Upload,
            Access,
            Setting,
            Destination,
        ]
    };

    /// The table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Space::Meta => "meta",
            Space::Blob => "blob",
            Space::Link => "link",
            Space::Mref => "mref",
            Space::Manifest => "manifest",
            Space::Tag => "tag",
            Space::Referrer => "referrer",
            Space::Repo => "repo",
            Space::Counter => "counter",
            Space::Edge => "edge",
            Space::Event => "event",
            Space::Cursor => "cursor",
            Space::Job => "job",
            Space::Lease => "lease",
            Space::User => "user",
            Space::Token => "token",
            Space::Grant => "grant",
            Space::Binding => "binding",
            Space::Decision => "decision",
            Space::Promotion => "promotion",
            Space::Plugin => "plugin",
            Space::Scan => "scan",
            Space::Facts => "facts",
            Space::Reap => "reap",
            Space::Audit => "audit",
            Space::Held => "held",
            Space::Upload => "upload",
            Space::Access => "access",
            Space::Setting => "setting",
            Space::Destination => "destination",
        }
    }
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

const SEPARATOR: u8 = 0x00;
const ESCAPE: u8 = 0x01;

/// Where a row is: its space, and bytes that order it there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The table.
    pub space: Space,
    /// The place in the table; at most [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    pub bytes: Bytes,
}

impl Key {
    /// A key of raw bytes.
    pub fn new(space: Space, bytes: impl Into<Bytes>) -> Key {
        Key { space, bytes: bytes.into() }
    }

    /// The parts that [`key`] was given; bytes that are not UTF-8 are replaced.
    pub fn parts(&self) -> Vec<String> {
        self.bytes.split(|b| *b == SEPARATOR).map(unescape).collect()
    }

    /// One part, counted from 0.
    pub fn part(&self, index: usize) -> Option<String> {
        self.bytes.split(|b| *b == SEPARATOR).nth(index).map(unescape)
    }
}

/// A composite key: the parts, separated by 0x00.
///
/// A part may hold anything: 0x00 and 0x01 inside a part are escaped (0x01 0x01 and 0x01 0x02), which keeps the
/// order and keeps parts apart, so a part that an outsider chose cannot reach into a neighbour's range.
/// Numbers go in by [`number`].
pub fn key<P: AsRef<str>>(space: Space, parts: &[P]) -> Key {
    Key { space, bytes: join(parts).into() }
}

/// A number as a key's part: 16 lowercase hexadecimal digits, so that text order is number order.
pub fn number(n: u64) -> String {
    format!("{n:016x}")
}

/// Reads back a part made by [`number`].
pub fn parse_number(part: &str) -> Option<u64> {
    if part.len() != 16 || part.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u64::from_str_radix(part, 16).ok()
}

fn join<P: AsRef<str>>(parts: &[P]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.as_ref().len() + 1).sum());
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push(SEPARATOR);
        }
        for b in part.as_ref().bytes() {
            match b {
                SEPARATOR => out.extend([ESCAPE, 1]),
                ESCAPE => out.extend([ESCAPE, 2]),
                b => out.push(b),
            }
        }
    }
    out
}

fn unescape(part: &[u8]) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.iter();
    while let Some(b) = bytes.next() {
        match b {
            &ESCAPE => out.extend(bytes.next().map(|c| c.wrapping_sub(1))),
            b => out.push(*b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.space.fmt(f)?;
        for part in self.parts() {
            write!(f, "/{}", part.escape_debug())?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Keys of one space from `from` (in) to `to` (out; none for the end of the space).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The table.
    pub space: Space,
    /// First key that belongs.
    pub from: Bytes,
    /// First key after it that does not.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// A whole space.
    pub fn all(space: Space) -> KeyRange {
        KeyRange { space, from: Bytes::new(), to: None }
    }

    /// Every key that has these parts and at least one more below them; no parts: the whole space.
    pub fn prefix<P: AsRef<str>>(space: Space, parts: &[P]) -> KeyRange {
        if parts.is_empty() {
            return KeyRange::all(space);
        }
        let mut from = join(parts);
        let mut to = from.clone();
        from.push(SEPARATOR);
        to.push(SEPARATOR + 1);
        KeyRange { space, from: from.into(), to: Some(to.into()) }
    }

    /// What is left of the range behind `key`: the next page.
    pub fn after(mut self, key: &Key) -> KeyRange {
        let mut next = Vec::with_capacity(key.bytes.len() + 1);
        next.extend_from_slice(&key.bytes);
        next.push(0);
        if next.as_slice() > self.from.as_ref() {
            self.from = next.into();
        }
        self
    }

    /// What is left of the range before `key`: the next page, backwards.
    pub fn before(mut self, key: &Key) -> KeyRange {
        if self.to.as_ref().is_none_or(|to| key.bytes < to) {
            self.to = Some(key.bytes.clone());
        }
        self
    }

    /// Keys up to and with `key`.
    pub fn through(self, key: &Key) -> KeyRange {
        let mut next = Vec::with_capacity(key.bytes.len() + 1);
        next.extend_from_slice(&key.bytes);
        next.push(0);
        self.before(&Key::new(key.space, next))
    }

    /// Keys from `key` on, with it.
    pub fn starting_at(mut self, key: &Key) -> KeyRange {
        if key.bytes > self.from {
            self.from = key.bytes.clone();
        }
        self
    }

    /// Whether the range holds the key.
    pub fn contains(&self, key: &Key) -> bool {
        key.space == self.space && key.bytes >= self.from && self.to.as_ref().is_none_or(|to| key.bytes < to)
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to <= &self.from)
    }

    /// The bounds as `std` ranges write them.
    pub fn bounds(&self) -> (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>) {
        use std::ops::Bound;
        let to = match &self.to {
            Some(to) => Bound::Excluded(to.as_ref()),
            None => Bound::Unbounded,
        };
        (Bound::Included(self.from.as_ref()), to)
    }

    /// A key that stands for the range in a message.
    pub(crate) fn first(&self) -> Key {
        Key { space: self.space, bytes: self.from.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spaces_have_distinct_numbers_and_names() {
        for (i, space) in Space::ALL.iter().enumerate() {
            assert_eq!(*space as usize, i + 1);
        }
        let names: std::collections::BTreeSet<_> = Space::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), Space::ALL.len());
    }

    #[test]
    fn numbers_order_as_text() {
        assert_eq!(number(255), "00000000000000ff");
        assert_eq!(parse_number("00000000000000ff"), Some(255));
        assert_eq!(parse_number("+0000000000000ff"), None);
        assert_eq!(parse_number("ff"), None);
    }

    #[test]
    fn pages_do_not_overlap() {
        let range = KeyRange::prefix(Space::Tag, &["dev/app"]);
        let a = key(Space::Tag, &["dev/app", "1.4"]);
        assert!(range.contains(&a));
        assert!(!range.contains(&key(Space::Tag, &["dev/app"])));
        assert!(!range.contains(&key(Space::Tag, &["dev/app2", "1.4"])));
        assert!(!range.clone().after(&a).contains(&a));
        assert!(range.clone().after(&a).contains(&key(Space::Tag, &["dev/app", "1.4", ""])));
        assert!(range.clone().through(&a).contains(&a));
        assert!(!range.before(&a).contains(&a));
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in proptest::collection::vec("[\\x00-\\x03a-c/é]{0,4}", 1..4)) {
            prop_assert_eq!(key(Space::Tag, &parts).parts(), parts);
        }

        #[test]
        fn order_of_parts_is_order_of_keys(
            a in proptest::collection::vec("[\\x00-\\x03a]{0,3}", 2),
            b in proptest::collection::vec("[\\x00-\\x03a]{0,3}", 2),
        ) {
            prop_assert_eq!(key(Space::Tag, &a).cmp(&key(Space::Tag, &b)), a.cmp(&b));
        }

        #[test]
        fn a_prefix_holds_its_own_and_nothing_else(
            a in "[\\x00-\\x03a]{0,3}", b in "[\\x00-\\x03a]{0,3}", c in "[\\x00-\\x03a]{0,3}",
        ) {
            let range = KeyRange::prefix(Space::Tag, &[&a]);
            prop_assert_eq!(range.contains(&key(Space::Tag, &[&b, &c])), a == b);
        }
    }
}
