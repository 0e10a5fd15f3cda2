//! A deciding plugin is replaced, broken, failing or gone.

use serde_json::json;

use super::case::{Case, binding, does, no_criticals, open, stage_of};
use super::guests::{guest, marked};
use crate::access::Principal;
use crate::event::Kind;
use crate::flow::promote::{dry_run, explain};
use crate::promote::Verdict;

#[tokio::test(flavor = "multi_thread")]
async fn another_plugin_file_changes_the_next_verdict_and_a_missing_one_holds() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.drop_in("guest.wasm", &marked(1));
    case.until("the rejecting plugin", async |case| {
        let found = case.app.plugins.find("guest")?;
        (found.digest() == wharf_plugin::facts::sha256(&marked(1))).then_some(())
    })
    .await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_judged("dev/app:1", "to-qa", Verdict::Reject).await;
    case.drop_in("guest.wasm", &marked(2));
    case.until_at("qa/app:1", &digest).await;
    case.until_idle().await;
    case.take_out("guest.wasm");
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    assert_eq!(held.policies[0].held_because.as_ref().unwrap().code, "plugin-gone");
    assert_eq!(held.policies[0].plugin_digest, "");
    let second = case.push("dev/app:2", "y", &[("zlib", "1")]).await;
    case.until_judged("dev/app:2", "to-qa", Verdict::Hold).await;
    assert_ne!(case.digest_at("qa/app:2").await, Some(second));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_plugin_file_is_remembered_and_the_last_good_one_survives_a_restart() {
    let mut case = Case::new().await;
    case.drop_in("guest.wasm", b"\0asm and nothing more");
    let refused = case.until("a quarantine", async |case| {
        crate::plugin::state::quarantine(&case.app.store, |_| true).await.unwrap().0.pop()
    });
    let refused = refused.await;
    assert_eq!((refused.file.as_str(), refused.stage.as_str()), ("guest.wasm", "inspect"));
    assert_eq!(refused.kept, Some(wharf_plugin::facts::sha256(guest())));
    case.stop().await;
    let app = open(case.data.path(), case.app.store.clone());
    case.app = app;
    case.start().await;
    assert_eq!(case.app.plugins.find("guest").unwrap().digest(), wharf_plugin::facts::sha256(guest()));
    case.stop().await;
}

/// Regression: only the log told of it, and the plugins that came from the folder went on approving.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_folder_that_is_gone_holds_and_is_shown() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &digest).await;
    case.until_idle().await;
    std::fs::remove_dir_all(case.data.path().join("plugins")).unwrap();
    let refused = case.until("a quarantine", async |case| {
        let (rows, _) = crate::plugin::state::quarantine(&case.app.store, |_| true).await.unwrap();
        rows.into_iter().find(|row| row.file == "plugins/")
    });
    assert_eq!(refused.await.stage, "read");
    assert!(case.app.plugins.catalog().current().failed().contains_key("plugins/"));
    case.push("dev/app:2", "y", &[("zlib", "1")]).await;
    let held = case.until_judged("dev/app:2", "to-qa", Verdict::Hold).await;
    assert_eq!(held.policies[0].held_because.as_ref().unwrap().code, "plugin-gone");
    case.stop().await;
}

/// A server is ready before the last plugin of a folder of many is compiled.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_still_being_loaded_holds_until_it_is_there() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", json!([no_criticals(), does("list")])).await;
    case.take_out("guest.wasm");
    case.until("its end", async |case| {
        case.events(|kind| matches!(kind, Kind::PluginRemoved { .. })).await.pop().map(drop)
    })
    .await;
    case.app.plugins.set_loading(true);
    let refused = case.app.plugins.check_config("guest", "{}").await.unwrap_err().to_string();
    assert!(refused.contains("`guest` is not in force: plugins are still being loaded"), "{refused}");
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    let held = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    assert_eq!(held.policies[1].held_because.as_ref().unwrap().code, "plugin-loading");
    case.put_in_force("guest", guest()).await;
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_is_a_hold_and_the_breaker_says_so() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("panic")).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    let stage = stage_of("dev/app:1");
    // It is asked again each time it has cooled down, which on a slow machine may be before we look; twice as long each time.
    let mut asked = 0;
    let open = loop {
        case.until_idle().await;
        let newest = case.newest(&stage, "to-qa").await.unwrap();
        if newest.policies[0].held_because.as_ref().unwrap().code == "breaker-open" {
            break newest;
        }
        assert!(asked < 12, "it is asked for ever: {newest:#?}");
        explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
        asked += 1;
    };
    assert_eq!(open.verdict, Verdict::Hold);
    assert!(!case.events(|kind| matches!(kind, Kind::PluginBreakerOpened { .. })).await.is_empty());
    assert_ne!(case.digest_at("qa/app:1").await, Some(digest));
    case.stop().await;
}

/// Regression: a dry run with a config that makes the plugin fail closed the way to the judgements of others.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_opens_no_breaker() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_idle().await;
    let trial = binding("trial", "dev/**", &[("qa/{name}", "%n")], does("panic"));
    let admin = Principal::user("admin");
    for _ in 0..5 {
        let run = dry_run::dry_run(&case.app, &admin, &trial, None, 10).await.unwrap();
        assert_eq!(run.tags[0].policies[0].held_because.as_ref().unwrap().code, "trap");
    }
    case.bind("to-qa", "dev/**", "qa/{name}", json!([no_criticals(), does("list")])).await;
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}
