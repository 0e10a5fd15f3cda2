//! The definition of the command line, and the pages made from it.

use super::*;

#[test]
fn the_definition_holds() {
    definition().debug_assert();
}

#[test]
fn every_command_says_what_it_does_and_shows_an_example() {
    fn check(command: &clap::Command, path: &str) {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let path = format!("{path} {}", inner.get_name());
            assert!(inner.get_about().is_some(), "`{path}` does not say what it does");
            let example = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&path), "the help of `{path}` shows no example of it");
            // A terminal would break it where a shell does not expect that.
            let copied = example.lines().filter(|line| line.starts_with(' '));
            let wide: Vec<&str> = copied.filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty(), "examples of `{path}` are wider than a terminal: {wide:#?}");
            if inner.has_subcommands() {
                check(inner, &path);
                continue;
            }
            for argument in inner.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "`{path}` does not describe `{}`", argument.get_id());
            }
        }
    }
    check(&definition(), "wharf");
}

/// `admin reset` and `config check` took no `--output json`.
#[test]
fn every_command_answers_programs() {
    fn check(command: &clap::Command, path: &str) {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let path = format!("{path} {}", inner.get_name());
            if inner.has_subcommands() {
                check(inner, &path);
                continue;
            }
            // The one answers with a script, the other not at all.
            let is_exempt = ["wharf completions", "wharf serve"].contains(&path.as_str());
            let takes_it = inner.get_arguments().any(|argument| argument.get_id() == "output");
            assert_eq!(takes_it, !is_exempt, "`{path}`");
        }
    }
    let mut definition = definition();
    // Options of a whole noun become those of its commands.
    definition.build();
    check(&definition, "wharf");
}

#[test]
fn an_example_is_shown_whole() {
    let definition = definition();
    let help = |name: &str| definition.find_subcommand(name).unwrap().get_after_help().unwrap().to_string();
    let policy = help("policy");
    assert!(
        policy.contains(
            "--to 'qa/{name}' \\\n      --plugin criteria --config rules.json\n  wharf policy ls\n"
        ),
        "{policy}"
    );
    assert!(
        help("config").ends_with("Examples:\n  wharf config check /etc/wharf.toml"),
        "{}",
        help("config")
    );
}

#[test]
fn the_reference_page_is_up_to_date() {
    let page = reference::text(definition());
    let kept = include_str!("../../../docs/cli.md");
    assert!(page == kept, "docs/cli.md is out of date; hint: `wharf reference > docs/cli.md`");
}

#[test]
fn the_description_of_the_api_is_up_to_date() {
    let text = openapi::text().unwrap();
    let kept = include_str!("../../../docs/openapi.json");
    assert!(text == kept, "docs/openapi.json is out of date; hint: `wharf openapi > docs/openapi.json`");
}

#[test]
fn failures_end_with_their_hint() {
    let stop =
        exit::Stop::refused("`qa/app:1.4` is held: no vulnerability data; hint: `wharf db import FILE`");
    let error = anyhow::Error::from(stop).context("cannot promote");
    insta::assert_snapshot!(exit::text(&error), @r"
    error: cannot promote: `qa/app:1.4` is held: no vulnerability data
    hint: `wharf db import FILE`
    ");
    assert_eq!(exit::Exit::of(&error), Exit::Refused);
}

#[test]
fn a_hint_stands_last_wherever_it_was_given() {
    let error = anyhow::anyhow!("connection refused").context("cannot reach it; hint: start it");
    assert_eq!(exit::text(&error), "error: cannot reach it: connection refused\nhint: start it\n");
}

#[test]
fn a_secret_is_not_taken_from_the_command_line() {
    let refused = |line: &[&str]| {
        let matches = definition().try_get_matches_from(line).unwrap();
        secret_on_the_line(&matches)
    };
    assert_eq!(refused(&["wharf", "status", "--user", "a", "--password", "x"]), Some("password"));
    assert_eq!(refused(&["wharf", "user", "ls", "--token", "x"]), Some("token"));
    assert_eq!(refused(&["wharf", "scan", "a", "--user", "a", "--password", "x"]), Some("password"));
    assert_eq!(refused(&["wharf", "status", "--user", "a"]), None);
}

/// `wharf nope` was taken for `wharf openapi`, which help does not show.
#[test]
fn a_hidden_command_is_not_suggested() {
    let check = |line: &[&str], suggestion: Option<&str>| {
        let error = without_hidden(definition().try_get_matches_from(line).unwrap_err()).to_string();
        assert_eq!(error.contains("similar"), suggestion.is_some(), "{error}");
        assert!(suggestion.is_none_or(|name| error.contains(&format!("'{name}'"))), "{error}");
    };
    check(&["wharf", "nope"], None);
    check(&["wharf", "plicy"], Some("policy"));
}
