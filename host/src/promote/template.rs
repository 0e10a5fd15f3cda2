//! Where a promoted image goes: `qa/{name}` and `%n-%Y%m%d`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_oci::{RepoName, Tag};

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 255;

/// A text that is no template, or one that gives no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a template has 1 to {TEMPLATE_BYTES_MAX} characters")]
    Length,
    #[error(
        "`{template}` has an unknown place `{{{place}}}`; hint: `{{name}}`, `{{namespace}}`, `{{repository}}`"
    )]
    Place { template: String, place: String },
    #[error("`{template}` has a `{{` or `}}` without its other half")]
    Brace { template: String },
    #[error(
        "`{template}` has an unknown directive `%{directive}`; hint: `%n` is the source's tag, `%Y`, `%m`, `%d` … the time"
    )]
    Directive { template: String, directive: String },
    #[error("`{template}` cannot give a valid {what}: {why}")]
    Shape { template: String, what: &'static str, why: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum RepoPart {
    Text(String),
    /// What follows the namespace.
    Name,
    Namespace,
    Repository,
}

/// A repository with places for parts of the source's: `{name}` is what follows its first component, `{namespace}` that
/// component, `{repository}` all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoTemplate {
    text: String,
    parts: Vec<RepoPart>,
}

impl RepoTemplate {
    /// The target of a source.
    ///
    /// # Errors
    /// [`TemplateError::Shape`] where the result is too long for a repository name.
    pub fn render(&self, source: &RepoName) -> Result<RepoName, TemplateError> {
        let text: String = self
            .parts
            .iter()
            .map(|part| match part {
                RepoPart::Text(text) => text,
                RepoPart::Name => source.name(),
                RepoPart::Namespace => source.namespace(),
                RepoPart::Repository => source.as_str(),
            })
            .collect();
        text.parse().map_err(|error: wharf_oci::ParseError| self.shape(error.to_string()))
    }

    /// A pattern that every target matches, whatever the source.
    pub fn as_pattern(&self) -> String {
        let glued: String = self
            .parts
            .iter()
            .map(|part| match part {
                RepoPart::Text(text) => text.as_str(),
                RepoPart::Namespace => "*",
                RepoPart::Name | RepoPart::Repository => "**",
            })
            .collect();
        // A place that is glued to other text, as in `qa/x{name}`, begins in that component and may go on over more.
        let widen = |component: &str| match component {
            "**" => "**".to_owned(),
            glued if glued.contains("**") => "**".to_owned(),
            plain => plain.to_owned(),
        };
        glued.split('/').map(widen).collect::<Vec<_>>().join("/")
    }

    fn shape(&self, why: String) -> TemplateError {
        TemplateError::Shape { template: self.text.clone(), what: "repository name", why }
    }
}

impl FromStr for RepoTemplate {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        if template.is_empty() || template.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Length);
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let Some(open) = rest.find(['{', '}']) else {
                parts.push(RepoPart::Text(rest.to_owned()));
                break;
            };
            let brace = || TemplateError::Brace { template: template.to_owned() };
            if open > 0 {
                parts.push(RepoPart::Text(rest[..open].to_owned()));
            }
            let (place, behind) =
                rest[open..].strip_prefix('{').and_then(|r| r.split_once('}')).ok_or_else(brace)?;
            parts.push(match place {
                "name" => RepoPart::Name,
                "namespace" => RepoPart::Namespace,
                "repository" => RepoPart::Repository,
                _ => {
                    let (template, place) = (template.to_owned(), place.to_owned());
                    return Err(TemplateError::Place { template, place });
                }
            });
            rest = behind;
        }
        let parsed = RepoTemplate { text: template.to_owned(), parts };
        // A short source shows whether the text around the places can be part of a name at all.
        let sample: RepoName = "a/b".parse().map_err(|_| parsed.shape(String::new()))?;
        parsed.render(&sample)?;
        Ok(parsed)
    }
}

impl fmt::Display for RepoTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Directives of a tag template, those of Docker Trusted Registry: `%n` is the source's tag, the others are the time of the
/// promotion in UTC as `strftime` writes it.
const DIRECTIVES: &str = "nAawdBbmYyHIpMSfZjW%";

/// A tag with places for the source's tag and the time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TagTemplate(String);

impl Default for TagTemplate {
    fn default() -> Self {
        TagTemplate("%n".to_owned())
    }
}

impl TagTemplate {
    /// The target's tag for a source's, at a time in milliseconds since 1970.
    ///
    /// # Errors
    /// [`TemplateError::Shape`] where the result is no tag, because it became too long.
    pub fn render(&self, source: &Tag, at_ms: u64) -> Result<Tag, TemplateError> {
        let shape = |why: String| TemplateError::Shape { template: self.0.clone(), what: "tag", why };
        let ms = i64::try_from(at_ms).map_err(|e| shape(e.to_string()))?;
        let at = Timestamp::from_millisecond(ms).map_err(|e| shape(e.to_string()))?.to_zoned(TimeZone::UTC);
        let mut tag = String::new();
        for (literal, directive) in self.pieces() {
            tag.push_str(literal);
            match directive {
                None => {}
                Some('n') => tag.push_str(source.as_str()),
                Some('%') => tag.push('%'),
                Some('f') => {
                    let _ = write!(tag, "{:06}", at.subsec_nanosecond() / 1000);
                }
                Some(letter) => {
                    let _ = write!(tag, "{}", at.strftime(&format!("%{letter}")));
                }
            }
        }
        tag.parse().map_err(|error: wharf_oci::ParseError| shape(error.to_string()))
    }

    /// A glob that every target's tag matches.
    pub fn as_pattern(&self) -> String {
        self.pieces().map(|(literal, directive)| literal.to_owned() + directive.map_or("", |_| "*")).collect()
    }

    /// Literal texts, each with the directive behind it.
    fn pieces(&self) -> impl Iterator<Item = (&str, Option<char>)> {
        let mut rest = Some(self.0.as_str());
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let Some((literal, behind)) = text.split_once('%') else { return Some((text, None)) };
            let directive = behind.chars().next();
            rest = directive.map(|directive| &behind[directive.len_utf8()..]);
            Some((literal, directive))
        })
    }
}

impl FromStr for TagTemplate {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        if template.is_empty() || template.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::Length);
        }
        let parsed = TagTemplate(template.to_owned());
        let unknown = |directive: &str| TemplateError::Directive {
            template: template.to_owned(),
            directive: directive.to_owned(),
        };
        if template.strip_suffix('%').is_some_and(|before| !before.ends_with('%')) {
            return Err(unknown(""));
        }
        for (_, directive) in parsed.pieces() {
            if let Some(directive) = directive.filter(|d| !DIRECTIVES.contains(*d)) {
                return Err(unknown(&directive.to_string()));
            }
        }
        let sample: Tag = "a".parse().map_err(|_| unknown("n"))?;
        parsed.render(&sample, 0)?;
        Ok(parsed)
    }
}

impl fmt::Display for TagTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(RepoTemplate);
serde_as_text!(TagTemplate);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promote::glob::repositories_overlap;

    /// 2026-02-03 04:05:06.789 UTC, a Tuesday.
    const AT_MS: u64 = 1_770_091_506_789;

    fn tag(template: &str) -> String {
        let template: TagTemplate = template.parse().unwrap();
        template.render(&"1.4".parse().unwrap(), AT_MS).unwrap().to_string()
    }

    #[test]
    fn every_directive_of_docker_trusted_registry_is_rendered() {
        assert_eq!(tag("%n"), "1.4");
        assert_eq!(tag("%n-%Y%m%d"), "1.4-20260203");
        assert_eq!(tag("%A.%a.%w.%B.%b.%y"), "Tuesday.Tue.2.February.Feb.26");
        assert_eq!(tag("%H%I%p%M%S-%f"), "0404AM0506-789000");
        assert_eq!(tag("x%Z-%j-%W"), "xUTC-034-05");
    }

    #[test]
    fn repositories_take_parts_of_the_source() {
        let check = |template: &str, source: &str, expected: &str| {
            let template: RepoTemplate = template.parse().unwrap();
            assert_eq!(template.render(&source.parse().unwrap()).unwrap().as_str(), expected);
        };
        check("qa/{name}", "dev/app", "qa/app");
        check("qa/{name}", "dev/web/app", "qa/web/app");
        check("{namespace}-qa/{name}", "dev/app", "dev-qa/app");
        check("archive/{repository}", "dev/app", "archive/dev/app");
        check("prod/app", "dev/app", "prod/app");
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_place() {
        for bad in ["", "qa/{team}", "qa/{name", "qa/name}", "QA/{name}", "qa//{name}", "qa/{name}/"] {
            assert!(bad.parse::<RepoTemplate>().is_err(), "{bad}");
        }
        for bad in ["", "%", "%n%", "%q", "-%n", "a b", "%n:%d", "%%"] {
            assert!(bad.parse::<TagTemplate>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_rendered_matches_the_pattern(
            template in "(qa|[{]namespace[}])(/x)?(/([{]name[}]|[{]repository[}]|y[{]name[}]|z)){1,2}",
            source in "[a-c]{1,3}(/[a-c]{1,3}){0,3}",
        ) {
            let parsed: RepoTemplate = template.parse().unwrap();
            let target = parsed.render(&source.parse().unwrap()).unwrap();
            prop_assert!(repositories_overlap(&parsed.as_pattern(), target.as_str()), "{} {}", parsed.as_pattern(), target);
        }

        #[test]
        fn parsing_a_template_never_panics(text in ".{0,40}") {
            let _ = text.parse::<RepoTemplate>();
            let _ = text.parse::<TagTemplate>();
        }
    }
}
