use clap::Subcommand;
use http::Method;
use serde::Serialize;

use super::client::{Remote, rows};
use super::exit::Stop;
use super::output::{Table, bytes, note, pairs};
use crate::api::admin::{NewQuota, NewSetting, QuotaEntry, RepositoryEntry, SettingEntry};

/// Repositories: immutable tags, quotas of their namespaces
#[derive(Debug, clap::Args)]
pub(super) struct Repo {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the repositories with their settings
    #[command(after_help = "Examples:
  wharf repo ls
  wharf repo ls 'dev/**'")]
    Ls {
        /// Only repositories of this pattern
        pattern: Option<String>,
        /// Rows at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = rows())]
        limit: usize,
    },
    /// Change a repository's settings; they may be there before its first push
    #[command(after_help = "Examples:
  wharf repo set prod/app --immutable '*'
  wharf repo set prod/app --mutable")]
    Set {
        /// Name of the repository
        name: String,
        /// Tags that are pointed once, then neither moved nor deleted; more than one may be given
        #[arg(long, value_name = "PATTERN", required_unless_present = "mutable")]
        immutable: Vec<String>,
        /// No tag is immutable
        #[arg(long, conflicts_with = "immutable")]
        mutable: bool,
    },
    /// Show or change how many bytes a namespace may hold
    #[command(after_help = "Examples:
  wharf repo quota dev
  wharf repo quota dev --max 200GiB
  wharf repo quota dev --unlimited")]
    Quota {
        /// First part of the repositories' names
        namespace: String,
        /// Bytes at most: a number, alone or with KiB, MiB, GiB or TiB
        #[arg(long, value_name = "BYTES", value_parser = size)]
        max: Option<u64>,
        /// Lift the limit
        #[arg(long, conflicts_with = "max")]
        unlimited: bool,
    },
}

#[derive(Serialize)]
struct OfPattern<'a> {
    pattern: Option<&'a str>,
}

#[derive(Serialize)]
struct OfNamespace<'a> {
    namespace: &'a str,
}

impl Repo {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        match self.verb {
            Verb::Ls { pattern, limit } => {
                let query = OfPattern { pattern: pattern.as_deref() };
                let (found, more): (Vec<RepositoryEntry>, bool) =
                    client.list(&["repositories"], &query, limit).await?;
                self.remote.output.show(&found, |found| table(found))?;
                if more {
                    note("there are more; hint: --limit N");
                }
            }
            Verb::Set { name, immutable, mutable: _ } => {
                let new = NewSetting { repository: name, immutable_tags: immutable };
                let set: SettingEntry = client.send(Method::PUT, &["repositories"], &new).await?;
                self.remote.output.done(&set, changed(&set))?;
            }
            Verb::Quota { namespace, max, unlimited } => {
                if max.is_some() || unlimited {
                    let new = NewQuota { namespace: namespace.clone(), max_bytes: max };
                    client.call(client.request(Method::PUT, &["quotas"]).json(&new)).await?;
                }
                let entry: QuotaEntry =
                    client.query(&["quotas"], &OfNamespace { namespace: &namespace }).await?;
                self.remote.output.show(&entry, quota)?;
            }
        }
        Ok(())
    }
}

/// A name that was mistyped is not told as a repository that there is.
fn changed(set: &SettingEntry) -> String {
    let name = &set.repository;
    match set.exists {
        true => format!("changed `{name}`"),
        false => format!(
            "kept for the first push to `{name}`, which is not there yet; hint: `wharf repo ls` shows those there are"
        ),
    }
}

fn table(found: &[RepositoryEntry]) -> String {
    let mut table = Table::new(&["~REPOSITORY", "~IMMUTABLE TAGS"], "no repositories");
    for entry in found {
        table.row([entry.repository.clone(), entry.immutable_tags.join(" ")]);
    }
    table.text()
}

fn quota(entry: &QuotaEntry) -> String {
    pairs(&[
        ("namespace", entry.namespace.clone()),
        ("used", bytes(entry.used_bytes)),
        ("limit", entry.max_bytes.map_or_else(|| "none".to_owned(), bytes)),
    ])
}

/// `200GiB` in bytes.
fn size(text: &str) -> Result<u64, Stop> {
    let wrong = || Stop::usage("it is a number, alone or with KiB, MiB, GiB or TiB, such as `200GiB`");
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match &text[at..] {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        assert_eq!(size("200GiB").unwrap(), 200 << 30);
        assert_eq!(size("1").unwrap(), 1);
        for wrong in ["", "GiB", "1GB", "-1", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
