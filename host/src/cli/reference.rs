use clap::Command;

/// Print the reference page of the command line
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Reference {}

impl Reference {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::output::print(&text(super::definition()))
    }
}

/// `docs/cli.md`: the help of every command, in the order of `wharf --help`.
pub(super) fn text(mut command: Command) -> String {
    let mut out = String::from(
        "# Command line\n\n<!-- Made by `wharf reference`; a test compares it. -->\n\n\
         Every command answers `--help`. Options that name an environment variable may be given by it instead. A table is \
         for people and may change; `--output json` is the REST API's own form (`docs/openapi.json`) and does not.\n",
    );
    // Fixed, so that the page does not depend on whose terminal made it.
    command = command.term_width(100);
    command.build();
    page(&mut command, &mut Vec::new(), &mut out);
    out
}

fn page(command: &mut Command, path: &mut Vec<String>, out: &mut String) {
    path.push(command.get_name().to_owned());
    let help = command.render_long_help().to_string();
    let heading = "#".repeat((path.len() + 1).min(4));
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    out.push_str(&format!("\n{heading} {}\n\n```text\n{}\n```\n", path.join(" "), help.join("\n")));
    for inner in command.get_subcommands_mut().filter(|inner| !inner.is_hide_set()) {
        page(inner, path, out);
    }
    path.pop();
}
