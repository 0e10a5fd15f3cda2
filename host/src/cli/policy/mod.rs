//! `wharf policy`: bindings, and the decisions they came to.

mod bind;
mod dry_run;
mod explain;
mod question;
mod replay;

use clap::Subcommand;
use http::Method;
use serde_json::json;

use super::client::Remote;
use super::output::{Output, Table, ago, now_ms, pairs, time};
use crate::api::admin::{BindingEntry, TagName};
use crate::promote::Mode;

/// Which images are judged by which plugins, where they go, and why they did or did not
#[derive(Debug, clap::Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Bind(bind::Bind),
    /// List the bindings
    #[command(after_help = "Examples:
  wharf policy ls")]
    Ls {},
    /// Show one binding with its configs
    #[command(after_help = "Examples:
  wharf policy show to-qa")]
    Show {
        /// Name of the binding
        name: String,
    },
    /// Remove a binding; what it promoted stays where it is
    #[command(after_help = "Examples:
  wharf policy rm to-qa")]
    Rm {
        /// Name of the binding
        name: String,
    },
    Explain(explain::Explain),
    /// Ask the policies about an image again; the decision comes as soon as a worker is free
    #[command(after_help = "Examples:
  wharf policy judge dev/app:1.4")]
    Judge {
        /// Image, as REPOSITORY:TAG
        image: String,
    },
    DryRun(dry_run::DryRun),
    Replay(replay::Replay),
}

impl Policy {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let output = self.remote.output;
        match self.verb {
            Verb::Bind(bind) => bind.run(&client, output).await,
            Verb::Ls {} => {
                let (bindings, _): (Vec<BindingEntry>, bool) =
                    client.list(&["bindings"], &(), usize::MAX).await?;
                output.show(&bindings, |bindings| table(bindings))
            }
            Verb::Show { name } => {
                let binding: BindingEntry = client.get(&["bindings", &name]).await?;
                show(output, &binding)
            }
            Verb::Rm { name } => {
                client.call(client.request(Method::DELETE, &["bindings", &name])).await?;
                let gone = json!({"name": name, "removed": true});
                output.done(&gone, format!("removed the binding `{name}`"))
            }
            Verb::Explain(explain) => explain.run(&client, output).await,
            Verb::Judge { image } => {
                let request = client.request(Method::POST, &["decisions", "ask"]);
                client.call(request.json(&TagName { image: image.clone() })).await?;
                let remark = format!("asked; hint: `wharf policy explain {image}` shows what came of it");
                output.done(&json!({"image": image, "judgement": "asked"}), remark)
            }
            Verb::DryRun(dry_run) => dry_run.run(&client, output).await,
            Verb::Replay(replay) => replay.run(&client, output).await,
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
        Mode::Off => "off",
    }
}

fn sources(binding: &BindingEntry) -> String {
    match &*binding.tags {
        "*" => binding.repositories.clone(),
        tags => format!("{}:{tags}", binding.repositories),
    }
}

fn targets(binding: &BindingEntry) -> Vec<String> {
    binding.targets.iter().map(|target| format!("{}:{}", target.repository, target.tag)).collect()
}

fn table(bindings: &[BindingEntry]) -> String {
    let empty = "no bindings: nothing is judged; hint: `wharf policy bind --help`";
    let mut table = Table::new(&["~NAME", "~FROM", "~PLUGINS", "~TO", "MODE", "?AS"], empty);
    for binding in bindings {
        let plugins: Vec<&str> = binding.policies.iter().map(|policy| &*policy.plugin).collect();
        table.row([
            binding.name.clone(),
            sources(binding),
            plugins.join(", "),
            targets(binding).join(", "),
            mode(binding.mode).to_owned(),
            binding.owner.clone(),
        ]);
    }
    table.text()
}

fn show(output: Output, binding: &BindingEntry) -> anyhow::Result<()> {
    output.show(binding, |binding| details(binding, now_ms()))
}

fn details(binding: &BindingEntry, now_ms: u64) -> String {
    let targets: Vec<String> = binding
        .targets
        .iter()
        .map(|target| format!("{}:{}  (target `{}`)", target.repository, target.tag, target.name))
        .collect();
    let platforms = match binding.platforms.len() {
        0 => "all of them".to_owned(),
        _ => binding.platforms.join(", "),
    };
    let mut out = pairs(&[
        ("name", binding.name.clone()),
        ("from", sources(binding)),
        ("to", targets.join("\n")),
        ("mode", mode(binding.mode).to_owned()),
        ("acts as", binding.owner.clone()),
        ("platforms", platforms),
        ("written", format!("{} by {} ({})", time(binding.at_ms), binding.by, ago(binding.at_ms, now_ms))),
        ("revision", binding.revision.to_string()),
    ]);
    for policy in &binding.policies {
        let config = serde_json::to_string_pretty(&policy.config).unwrap_or_default();
        out.push_str(&format!("\nplugin `{}` with\n", policy.plugin));
        for line in config.lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}
