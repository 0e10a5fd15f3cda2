use std::fmt;
use std::str::FromStr;

use crate::{Digest, ParseError, RepoName, Tag};

/// What a manifest is asked by: a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Tag(Tag),
    Digest(Digest),
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A tag has no colon, a digest always has one.
        if text.contains(':') { text.parse().map(Target::Digest) } else { text.parse().map(Target::Tag) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tag(tag) => tag.fmt(f),
            Target::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image in this registry: `repository:tag` or `repository@digest`. A tag may stand before the digest, as docker
/// writes it; the digest then decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    pub repository: RepoName,
    pub target: Target,
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = |why| ParseError::new("image reference", text, why);
        if let Some((name, digest)) = text.split_once('@') {
            let repository = name.split_once(':').map_or(name, |(repository, _)| repository);
            return Ok(Reference {
                repository: repository.parse()?,
                target: Target::Digest(digest.parse()?),
            });
        }
        let (repository, tag) =
            text.rsplit_once(':').ok_or_else(|| wrong("it names no tag and no digest"))?;
        Ok(Reference { repository: repository.parse()?, target: Target::Tag(tag.parse()?) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Target::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

crate::serde_as_text!(Reference);
