use std::path::{Path, PathBuf};

use clap::ValueEnum;
use http::Method;
use serde_json::Value;
use serde_json::error::Category;

use super::{dry_run, show};
use crate::api::admin::{BindingEntry, NewBinding, NewDryRun, json_words};
use crate::cli::client::Client;
use crate::cli::exit::Stop;
use crate::cli::output::{Output, note};
use crate::promote::config::ConfigValue;
use crate::promote::{Mode, TargetRule};

/// Largest config or binding file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Make or replace a binding: which tags are judged by which plugins, and where approved ones go
///
/// The binding acts with your rights (or those of --as), which are asked each time. Without a mode it enforces; `shadow`
/// judges and records but promotes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf policy bind to-qa --from 'dev/*' --to 'qa/{name}' \\
      --plugin criteria --config rules.json
  wharf policy bind no-agpl --from 'dev/*' --to 'qa/{name}' --tag '%n-%Y%m%d' \\
      --plugin licence-gate --config '{\"deny\":[\"AGPL-3.0-only\"]}' --mode shadow
  wharf policy bind to-prod -f to-prod.toml

A binding file holds what the REST API takes, as TOML or JSON:
  repositories = \"qa/*\"
  tags = \"v*\"
  targets = [{ name = \"prod\", repository = \"prod/{name}\", tag = \"%n\" }]
  [[policies]]
  plugin = \"licence-gate\"
  config = { deny = [\"AGPL-3.0-only\"] }")]
pub(super) struct Bind {
    /// Name of the binding
    name: String,
    /// Read the binding from a file (TOML, or JSON by its ending); `-` reads JSON from standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["from", "tags", "plugin", "config", "to", "tag", "mode", "platform", "owner"])]
    file: Option<PathBuf>,
    /// Repositories whose images are judged: `*` is within one part of the name, `**` any number of parts
    #[arg(long, value_name = "PATTERN", required_unless_present = "file")]
    from: Option<String>,
    /// Only tags of this pattern, such as `v*` [default: every tag]
    #[arg(long, value_name = "PATTERN")]
    tags: Option<String>,
    /// Plugin that judges; more than one may be given, and none may object
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    plugin: Vec<String>,
    /// Config of the plugin: a file (JSON, or TOML by its ending) or JSON itself; one for each --plugin, in order
    #[arg(long, value_name = "FILE|JSON")]
    config: Vec<String>,
    /// Where approved images go, such as `qa/{name}`; NAME=… names a target for plugins that choose
    #[arg(long, value_name = "[NAME=]REPOSITORY", required_unless_present = "file")]
    to: Vec<String>,
    /// Tag at the target: %n is the source's, %Y %m %d %H %M %S the time [default: %n]
    #[arg(long, value_name = "TEMPLATE")]
    tag: Option<String>,
    /// What to do with a verdict
    #[arg(long, value_enum, value_name = "MODE", default_value = "enforce")]
    mode: ModeArg,
    /// Platform of an index that counts, such as linux/amd64; more than one may be given [default: all]
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// User with whose rights it acts [default: you]
    #[arg(long = "as", value_name = "USER")]
    owner: Option<String>,
    /// Bind nothing; show what it would do about what is in the registry now
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Promote what is approved
    Enforce,
    /// Judge and record, promote nothing
    Shadow,
    /// Do nothing
    Off,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Mode {
        match mode {
            ModeArg::Enforce => Mode::Enforce,
            ModeArg::Shadow => Mode::Shadow,
            ModeArg::Off => Mode::Off,
        }
    }
}

impl Bind {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let body = self.body()?;
        if self.dry_run {
            let ask = |after| NewDryRun { binding: body.clone(), limit: Some(dry_run::PORTION), after };
            let tags = dry_run::judge(client, &["bindings", "dry-run"], ask).await?;
            return output.show(&tags, |tags| dry_run::table(tags));
        }
        let bound: BindingEntry = client.send(Method::PUT, &["bindings", &self.name], &body).await?;
        note(format!("bound `{}`", self.name));
        show(output, &bound)
    }

    fn body(&self) -> anyhow::Result<NewBinding> {
        if let Some(file) = &self.file {
            let value = document(file)?;
            return serde_json::from_value(value).map_err(|error| {
                let why = json_words(&error.to_string());
                Stop::usage(format!("`{}` is not a binding: {why}", file.display())).into()
            });
        }
        Ok(NewBinding {
            repositories: self.from.clone().unwrap_or_default(),
            tags: self.tags.clone(),
            policies: self.policies()?,
            targets: self.targets()?,
            owner: self.owner.clone(),
            mode: self.mode.into(),
            platforms: self.platform.clone(),
        })
    }

    fn policies(&self) -> anyhow::Result<Vec<crate::promote::Policy>> {
        let (plugins, configs) = (self.plugin.len(), self.config.len());
        if configs > 0 && configs != plugins {
            let message = format!(
                "{plugins} --plugin but {configs} --config; hint: `--config '{{}}'` where one needs none"
            );
            return Err(Stop::usage(message).into());
        }
        let none = "{}".to_owned();
        let configs = self.config.iter().chain(std::iter::repeat(&none));
        let policy = |(plugin, given): (&String, &String)| {
            let config = config(given)?;
            Ok(crate::promote::Policy { plugin: plugin.clone(), config })
        };
        self.plugin.iter().zip(configs).map(policy).collect()
    }

    fn targets(&self) -> anyhow::Result<Vec<TargetRule>> {
        let tag = self.tag.as_deref().unwrap_or("%n");
        let target = |(at, given): (usize, &String)| {
            let (name, repository) = match given.split_once('=') {
                Some((name, repository)) => (name.to_owned(), repository),
                None if at == 0 => ("default".to_owned(), given.as_str()),
                None => (format!("target-{}", at + 1), given.as_str()),
            };
            let rule = serde_json::json!({"name": name, "repository": repository, "tag": tag});
            serde_json::from_value(rule).map_err(|error| Stop::usage(format!("--to {given}: {error}")).into())
        };
        self.to.iter().enumerate().map(target).collect()
    }
}

/// A config as it is given: JSON itself, or the file that holds it.
pub(super) fn config(given: &str) -> anyhow::Result<Value> {
    if given.trim_start().starts_with(['{', '[']) {
        return from_json(given).map_err(|error| Stop::usage(format!("--config: {error}")).into());
    }
    let path = Path::new(given);
    if given != "-" && !path.exists() {
        let message = format!(
            "--config: there is no file `{given}`; hint: the config itself may be given, such as `--config '{{\"deny\":[]}}'`"
        );
        return Err(Stop::usage(message).into());
    }
    document(path)
}

/// A JSON or TOML document, by the file's ending; `-` is JSON on standard input.
fn document(path: &Path) -> anyhow::Result<Value> {
    use std::io::Read as _;
    let wrong = |why: String| Stop::usage(format!("cannot read `{}`: {why}", path.display()));
    let mut text = String::new();
    let is_stdin = path.as_os_str() == "-";
    let source: Box<dyn std::io::Read> = match is_stdin {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?),
    };
    source.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("it is larger than {FILE_BYTES_MAX} bytes")).into());
    }
    let is_json = is_stdin || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let parsed = match is_json {
        true => from_json(&text),
        false => toml::from_str(&text).map_err(|error| error.to_string().trim_end().to_owned()),
    };
    Ok(parsed.map_err(wrong)?)
}

/// What is JSON, with no key of an object twice.
fn from_json(text: &str) -> Result<Value, String> {
    let read = serde_json::from_str(text).map(|ConfigValue(value)| value);
    read.map_err(|error| match error.classify() {
        Category::Data => error.to_string(),
        Category::Io | Category::Syntax | Category::Eof => format!("no JSON: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        bind: Bind,
    }

    fn body(arguments: &[&str]) -> anyhow::Result<NewBinding> {
        Line::try_parse_from([&["bind"], arguments].concat())?.bind.body()
    }

    #[test]
    fn options_become_a_binding() {
        let found = body(&[
            "to-qa",
            "--from",
            "dev/*",
            "--tags",
            "v*",
            "--plugin",
            "criteria",
            "--config",
            r#"{"rules":[]}"#,
            "--plugin",
            "licence-gate",
            "--config",
            "{}",
            "--to",
            "qa/{name}",
            "--to",
            "eu=eu/{name}",
            "--tag",
            "%n-%Y",
            "--mode",
            "shadow",
            "--platform",
            "linux/amd64",
        ]);
        insta::assert_json_snapshot!(found.unwrap());
    }

    #[test]
    fn a_file_becomes_a_binding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("to-prod.toml");
        let text = "repositories = 'qa/*'\npolicies = [{ plugin = 'criteria', config = { rules = [] } }]\n\
                    targets = [{ name = 'prod', repository = 'prod/{name}' }]\n";
        std::fs::write(&path, text).unwrap();
        let found = body(&["to-prod", "-f", path.to_str().unwrap()]).unwrap();
        assert_eq!((found.repositories.as_str(), found.mode, found.tags), ("qa/*", Mode::Enforce, None));

        std::fs::write(&path, "repository = 'qa/*'").unwrap();
        let error = body(&["to-prod", "-f", path.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("to-prod.toml") && error.contains("unknown field `repository`"), "{error}");
    }

    #[test]
    fn a_config_is_json_or_a_file() {
        assert_eq!(config(" {\"deny\":[]}").unwrap(), serde_json::json!({"deny": []}));
        // The plugin is to say that it takes no list; it was taken for a file's name.
        assert_eq!(config("[1]").unwrap(), serde_json::json!([1]));
        let check = |given: &str, expected: &str| {
            let error = config(given).unwrap_err().to_string();
            assert!(error.starts_with(expected) && error.len() > expected.len(), "{error}");
        };
        check("{", "--config: no JSON: ");
        check(r#"{"deny": ["GPL-*"], "deny": []}"#, "--config: key `deny` is there twice at line 1");
        check("no-such-file.json", "--config: there is no file `no-such-file.json`; hint: ");
    }

    #[test]
    fn configs_belong_to_plugins() {
        let error = body(&[
            "x",
            "--from",
            "a/*",
            "--plugin",
            "a",
            "--plugin",
            "b",
            "--config",
            "{}",
            "--to",
            "qa/{name}",
        ]);
        assert!(error.unwrap_err().to_string().contains("2 --plugin but 1 --config"));
    }
}
