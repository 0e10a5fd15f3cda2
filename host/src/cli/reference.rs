use std::fmt::Write as _;

use clap::{Arg, Command};

use super::client::SERVER_OPTIONS;

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
         Every command answers `--help`. A table is for people and may change; `--output json` is one value in the REST \
         API's own form (`openapi.json`), of events one a line, and does not.\n\n\
         Commands that call a server also take these options, which are not repeated below. Passwords and access tokens \
         come from `WHARF_PASSWORD` and `WHARF_TOKEN`, from standard input or from `wharf login`, never from an option.\n",
    );
    // Fixed, so that the page does not depend on whose terminal made it.
    command = command.term_width(100);
    command.build();
    if let Some(status) = command.find_subcommand("status") {
        server_options(status, &mut out);
    }
    page(command, &mut Vec::new(), &mut out);
    out
}

fn says_which_server(argument: &Arg) -> bool {
    argument.get_help_heading() == Some(SERVER_OPTIONS)
}

fn server_options(command: &Command, out: &mut String) {
    out.push_str("\n| option | instead | |\n|---|---|---|\n");
    for argument in command.get_arguments().filter(|a| says_which_server(a) && !a.is_hide_set()) {
        let name = argument.get_long().unwrap_or_default();
        let value = argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
        let instead = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(out, "| `--{name} {value}` | {} | {about} |", instead.unwrap_or_default());
    }
}

fn page(command: Command, path: &mut Vec<String>, out: &mut String) {
    path.push(command.get_name().to_owned());
    let whole = command.get_long_about().or(command.get_about()).cloned().unwrap_or_default();
    let inner: Vec<Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let mut shown = command.about(whole).mut_args(|argument| {
        let hidden = says_which_server(&argument) || argument.is_hide_set();
        argument.hide(hidden)
    });
    let help = shown.render_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let heading = "#".repeat((path.len() + 1).min(4));
    let _ = write!(out, "\n{heading} {}\n\n```text\n{}\n```\n", path.join(" "), help.join("\n"));
    for command in inner {
        page(command, path, out);
    }
    path.pop();
}
