//! The command line: one file a noun.
//!
//! An operator sees `wharf --help`; `docs/cli.md` is made from the same definitions. All but a few commands are calls of
//! a running server's REST API; those that are not (`serve`, `scan`, `db`, `config check`, `admin reset`,
//! `store compact`) say so.
//!
//! Entry: [`run`].
//!
//! Invariant: standard output carries the answer and nothing else; progress, remarks and errors go to standard error.
//! Invariant: the exit status tells how a command ended, see [`exit::Exit`].
//! Invariant: settings come from options, which clap also reads from the environment, and from the files they name.

mod admin;
mod client;
mod completions;
mod config;
mod credentials;
mod db;
mod events;
mod exit;
mod grant;
mod image;
mod jobs;
mod login;
mod openapi;
mod output;
mod plugin;
mod policy;
mod progress;
mod promote;
mod prompt;
mod reference;
mod refusals;
mod repo;
mod scan;
mod schema;
mod serve;
mod status;
mod store;
mod token;
mod user;
mod visible;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use exit::Exit;

/// Wharf: push, scan, judge and promote container images
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    propagate_version = false,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Login(login::Login),
    Logout(login::Logout),
    Status(status::StatusCommand),
    Image(image::Image),
    Plugin(plugin::Plugin),
    Policy(policy::Policy),
    Promote(promote::Promote),
    Db(db::Db),
    Repo(repo::Repo),
    User(user::User),
    Token(token::Token),
    Grant(grant::Grant),
    Events(events::Events),
    Refusals(refusals::Refusals),
    Jobs(jobs::Jobs),
    Scan(scan::Scan),
    Config(config::Config),
    Admin(admin::Admin),
    Store(store::Store),
    Completions(completions::Completions),
    Openapi(openapi::Openapi),
    Reference(reference::Reference),
}

/// Parses the command line, runs the command and says how it ended.
pub fn run() -> ExitCode {
    let matches = match definition().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors to clap, too; only these two go to standard output.
            let code = if error.use_stderr() { Exit::Usage.code() } else { Exit::Done.code() };
            let _ = without_hidden(error).print();
            return code;
        }
    };
    if let Some(secret) = secret_on_the_line(&matches) {
        let variable = format!("WHARF_{}", secret.to_uppercase());
        let message = format!(
            "--{secret} would show the {secret} to other users of this machine; hint: set {variable}"
        );
        return exit::report(&exit::Stop::usage(message).into());
    }
    let done = Cli::from_arg_matches(&matches).map_err(anyhow::Error::from).and_then(|cli| cli.command.run());
    match done {
        Ok(()) => Exit::Done.code(),
        Err(error) => exit::report(&error),
    }
}

/// The secret that is on the command line, where every user of the machine can read it. clap reads the environment for
/// options alone, so secrets are options too, which nothing shows and this refuses.
fn secret_on_the_line(matches: &ArgMatches) -> Option<&'static str> {
    let given = |id: &&str| {
        matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine)
    };
    let here = ["password", "token"].into_iter().find(given);
    here.or_else(|| secret_on_the_line(matches.subcommand()?.1))
}

/// clap suggests commands for one that it does not know, and those that help does not show, too.
fn without_hidden(mut error: clap::Error) -> clap::Error {
    fn hides(command: &clap::Command, name: &str) -> bool {
        let is_it = |inner: &clap::Command| inner.is_hide_set() && inner.get_name() == name;
        command.get_subcommands().any(|inner| is_it(inner) || hides(inner, name))
    }
    if let Some(ContextValue::Strings(mut names)) = error.remove(ContextKind::SuggestedSubcommand) {
        let commands = definition();
        names.retain(|name| !hides(&commands, name));
        if !names.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(names));
        }
    }
    error
}

/// The whole tree of commands.
fn definition() -> clap::Command {
    let statuses: Vec<String> =
        Exit::ALL.iter().map(|(exit, means)| format!("  {}  {means}", *exit as u8)).collect();
    let after = format!(
        "Exit status:\n{}\n\nStart with:\n  wharf serve --data ./data\n  wharf login http://127.0.0.1:5080",
        statuses.join("\n")
    );
    Cli::command().mut_subcommands(with_examples).after_help(after)
}

/// A command that only has others within it shows the first example of each.
fn with_examples(command: clap::Command) -> clap::Command {
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    let firsts: Vec<String> = shown.filter_map(first_example).collect();
    match firsts.is_empty() {
        true => command,
        false => command.after_help(format!("Examples:\n{}", firsts.join("\n"))),
    }
}

/// The first example of a command's help, with the lines that it goes on in.
fn first_example(command: &clap::Command) -> Option<String> {
    let help = command.get_after_help()?.to_string();
    let (_, examples) = help.split_once("Examples:\n")?;
    let more = examples.lines().take_while(|line| line.ends_with('\\')).count();
    Some(examples.lines().take(more + 1).collect::<Vec<_>>().join("\n"))
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Serve(command) => command.run(),
            Command::Db(command) => command.run(),
            Command::Config(command) => command.run(),
            Command::Admin(command) => command.run(),
            Command::Store(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Openapi(command) => command.run(),
            Command::Reference(command) => command.run(),
            remote => block_on(remote.call()),
        }
    }

    /// The commands that call a server.
    async fn call(self) -> anyhow::Result<()> {
        match self {
            Command::Scan(command) => command.run().await,
            Command::Login(command) => command.run().await,
            Command::Logout(command) => command.run().await,
            Command::Status(command) => command.run().await,
            Command::Image(command) => command.run().await,
            Command::Plugin(command) => command.run().await,
            Command::Policy(command) => command.run().await,
            Command::Promote(command) => command.run().await,
            Command::Repo(command) => command.run().await,
            Command::User(command) => command.run().await,
            Command::Token(command) => command.run().await,
            Command::Grant(command) => command.run().await,
            Command::Events(command) => command.run().await,
            Command::Refusals(command) => command.run().await,
            Command::Jobs(command) => command.run().await,
            _ => Ok(()),
        }
    }
}

/// Runs what a client does; one thread is enough for it.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests;
