//! `digits{.digits}[letter]{_suffix[digits]}[~hash][-rN]`, apk-package(5), in the order of apk-tools 3.

use std::cmp::Ordering;

use super::number;

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (Tokens::new(a), Tokens::new(b));
    loop {
        let (x, y) = (a.next_token(), b.next_token());
        let order = x.cmp_to(&y);
        if order.is_ne() || matches!(x, Token::End | Token::Invalid(_)) {
            return order;
        }
    }
}

/// One part of a version. The first kind that differs decides by [`Token::rank`]: a version that goes on is the later one,
/// unless it goes on with a pre-release suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    First(&'a str),
    Digits(&'a str),
    Letter(u8),
    Suffix(Suffix),
    SuffixNumber(&'a str),
    Hash(&'a str),
    Revision(&'a str),
    End,
    /// The rest of a text that is no version, from where it ceases to be one.
    Invalid(&'a str),
}

/// In order; those before `Cvs` come before the release itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    Alpha,
    Beta,
    Pre,
    Rc,
    Cvs,
    Svn,
    Git,
    Hg,
    Patch,
}

impl Token<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Suffix(suffix) if *suffix < Suffix::Cvs => 0,
            Self::Invalid(_) => 1,
            Self::End => 2,
            Self::Revision(_) => 3,
            Self::Hash(_) => 4,
            Self::SuffixNumber(_) => 5,
            Self::Suffix(_) => 6,
            Self::Letter(_) => 7,
            Self::Digits(_) => 8,
            Self::First(_) => 9,
        }
    }

    fn cmp_to(&self, other: &Self) -> Ordering {
        match (self, other) {
            // As in Gentoo: with a leading zero it is a fraction, compared as text.
            (Self::Digits(a), Self::Digits(b)) if a.starts_with('0') || b.starts_with('0') => a.cmp(b),
            (Self::First(a), Self::First(b))
            | (Self::Digits(a), Self::Digits(b))
            | (Self::SuffixNumber(a), Self::SuffixNumber(b))
            | (Self::Revision(a), Self::Revision(b)) => number(a, b),
            (Self::Letter(a), Self::Letter(b)) => a.cmp(b),
            (Self::Suffix(a), Self::Suffix(b)) => a.cmp(b),
            (Self::Hash(a), Self::Hash(b)) | (Self::Invalid(a), Self::Invalid(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Where in the grammar the reader is: what may follow depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Start,
    Digits,
    Letter,
    Suffix,
    SuffixNumber,
    Hash,
    Revision,
}

struct Tokens<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Tokens<'a> {
    fn new(version: &'a str) -> Self {
        Self { rest: version.trim(), place: Place::Start }
    }

    fn next_token(&mut self) -> Token<'a> {
        if self.rest.is_empty() && self.place != Place::Start {
            return Token::End;
        }
        self.try_next().unwrap_or(Token::Invalid(self.rest))
    }

    fn try_next(&mut self) -> Option<Token<'a>> {
        let place = self.place;
        if place == Place::Start {
            let digits = self.digits(self.rest)?;
            self.place = Place::Digits;
            return Some(Token::First(digits));
        }
        match self.rest.as_bytes()[0] {
            letter @ b'a'..=b'z' if place <= Place::Digits => {
                self.rest = &self.rest[1..];
                self.place = Place::Letter;
                Some(Token::Letter(letter))
            }
            b'.' if place <= Place::Digits => self.digits(&self.rest[1..]).map(Token::Digits),
            b'0'..=b'9' if place == Place::Suffix => {
                let digits = self.digits(self.rest)?;
                self.place = Place::SuffixNumber;
                Some(Token::SuffixNumber(digits))
            }
            b'_' if place <= Place::SuffixNumber => {
                let (name, rest) = cut(&self.rest[1..], |b| b.is_ascii_lowercase());
                let suffix = suffix(name)?;
                (self.rest, self.place) = (rest, Place::Suffix);
                Some(Token::Suffix(suffix))
            }
            b'~' if place < Place::Hash => {
                let (hash, rest) = cut(&self.rest[1..], |b| b.is_ascii_hexdigit());
                if hash.is_empty() {
                    return None;
                }
                (self.rest, self.place) = (rest, Place::Hash);
                Some(Token::Hash(hash))
            }
            b'-' if place < Place::Revision => {
                let digits = self.digits(self.rest.strip_prefix("-r")?)?;
                self.place = Place::Revision;
                Some(Token::Revision(digits))
            }
            _ => None,
        }
    }

    /// Takes the digits at the front of `from`, which is `rest` or what follows its mark.
    fn digits(&mut self, from: &'a str) -> Option<&'a str> {
        let (digits, rest) = cut(from, |b| b.is_ascii_digit());
        if digits.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(digits)
    }
}

fn cut(text: &str, of: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !of(b)).unwrap_or(text.len()))
}

fn suffix(name: &str) -> Option<Suffix> {
    Some(match name {
        "alpha" => Suffix::Alpha,
        "beta" => Suffix::Beta,
        "pre" => Suffix::Pre,
        "rc" => Suffix::Rc,
        "cvs" => Suffix::Cvs,
        "svn" => Suffix::Svn,
        "git" => Suffix::Git,
        "hg" => Suffix::Hg,
        "p" => Suffix::Patch,
        _ => return None,
    })
}
