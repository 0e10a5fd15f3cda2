//! The whole way of an image, over the in-memory store, with real plugins and everything but the scan worker.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_oci::{Digest, MediaType, RepoName, Tag, Target};
use wharf_plugin::watch::WatchConfig;
use wharf_scan::{Distro, ImageFacts, Knowledge, Package, PackageKind, Report};
use wharf_store::{Model, Store, StoreError};

use super::*;
use crate::access::{Grant, Principal, Role, Subject};
use crate::config::Config;
use crate::event::{self, Event, Kind};
use crate::flow::plugin_drop::{self, PluginFolder};
use crate::flow::{self, db_import, scan_image};
use crate::jobs::{self, Queue, Runner, Settings, Work};
use crate::promote::decision::{self, Outcome};
use crate::promote::standing::{self, Place};
use crate::promote::{Binding, Bound, Decision, Mode, Verdict};
use crate::registry::quota;
use crate::{App, registry};

/// Longer than anything here takes, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn built(arguments: &[&str], wasm: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(arguments)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(&root)
        .status()
        .unwrap();
    assert!(status.success(), "{wasm} builds; hint: `rustup target add wasm32-wasip2`");
    std::fs::read(target.join("wasm32-wasip2").join(wasm)).unwrap()
}

/// The plugin that ships.
fn criteria() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "criteria", "--profile", "plugin"], "plugin/criteria.wasm"))
}

/// The plugin that does what its config says; see `host/plugin/tests/guest`.
fn guest() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let manifest = ["--release", "--manifest-path", "host/plugin/tests/guest/Cargo.toml"];
    BUILT.get_or_init(|| built(&manifest, "release/wharf_test_guest.wasm"))
}

/// The guest with another mark: an even one approves, an odd one rejects.
fn marked(mark: u8) -> Vec<u8> {
    let (from, to) = (b"WHARF-MARK-00", format!("WHARF-MARK-{mark:02}"));
    let mut bytes = guest().to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// What the scans of these tests find, by digest; an image that is not here waits for its scan.
type Scans = Arc<Mutex<HashMap<Digest, Report>>>;

struct Case {
    app: App,
    data: Arc<TempDir>,
    scans: Scans,
    runner: Option<Runner>,
    folder: Option<PluginFolder>,
}

impl Case {
    async fn new() -> Case {
        let (data, store) = (Arc::new(TempDir::new().unwrap()), Store::new(Arc::new(Model::default())));
        let mut case = Case::over(data, store, Scans::default());
        flow::account::first_start(&case.app).await.unwrap().unwrap();
        case.drop_in("criteria.wasm", criteria());
        case.drop_in("guest.wasm", guest());
        case.start().await;
        case
    }

    fn over(data: Arc<TempDir>, store: Store, scans: Scans) -> Case {
        Case { app: open(data.path(), store), data, scans, runner: None, folder: None }
    }

    async fn start(&mut self) {
        let watch = WatchConfig { debounce_ms: 20, max_debounce_ms: 100, settle_ms: 5, poll_ms: 200 };
        self.folder = Some(plugin_drop::start(&self.app, watch).await.unwrap());
        let (app, scans, real) = (self.app.clone(), self.scans.clone(), jobs::handler(self.app.clone()));
        // Everything as in a server, but the scan worker: the tests' own program is none.
        let handler: jobs::Handler = Arc::new(move |job| match job.work() {
            Work::Scan { repository, digest } => {
                let report = scans.lock().unwrap().get(digest).cloned();
                let (app, repository, digest) = (app.clone(), repository.clone(), digest.clone());
                Box::pin(async move {
                    let known = crate::facts::scanned::find(&app.store, &digest).await?;
                    if let (Some(report), None) = (report, known) {
                        let taken = scan_image::finish(&app, &repository, &digest, report).await;
                        taken.map_err(jobs::Failure::new)?;
                    }
                    Ok(())
                })
            }
            _ => real(job),
        });
        let settings = Settings { grace_s: 1, ..Settings::default() };
        let store = self.app.store.clone();
        self.runner = Some(Runner::start(store, settings, jobs::route, Vec::new(), handler).await.unwrap());
    }

    async fn stop(&mut self) {
        if let Some(runner) = self.runner.take() {
            runner.stop().await;
        }
        let folder = self.folder.take();
        tokio::task::spawn_blocking(move || drop(folder)).await.unwrap();
    }

    fn drop_in(&self, file: &str, bytes: &[u8]) {
        let folder: PathBuf = self.data.path().join("plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let partial = folder.join(format!(".{file}"));
        std::fs::write(&partial, bytes).unwrap();
        std::fs::rename(partial, folder.join(file)).unwrap();
    }

    fn take_out(&self, file: &str) {
        std::fs::remove_file(self.data.path().join("plugins").join(file)).unwrap();
    }

    /// Pushes an image whose one layer holds `content`, and says what its scan will find.
    async fn push(&self, at: &str, content: &str, packages: &[(&str, &str)]) -> Digest {
        let digest = self.push_unscanned(at, content).await;
        self.scanned(at, &digest, packages).await;
        digest
    }

    async fn push_unscanned(&self, at: &str, content: &str) -> Digest {
        self.push_layers(at, &[content.to_owned()]).await
    }

    async fn push_layers(&self, at: &str, layers: &[String]) -> Digest {
        let stage = stage_of(at);
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Labels": {"team": "dev"}},
            "rootfs": {"type": "layers", "diff_ids": []}})
        .to_string();
        let layer = |content: &String| ("application/vnd.oci.image.layer.v1.tar+gzip", content.clone());
        let mut describe = Vec::new();
        for (media_type, bytes) in
            [(MediaType::OCI_CONFIG, config)].into_iter().chain(layers.iter().map(layer))
        {
            let mut upload = self.app.blobs.create(stage.repository.as_str(), false).await.unwrap();
            upload.write(Bytes::copy_from_slice(bytes.as_bytes())).await.unwrap();
            let upload = &upload.finish(false).await.unwrap();
            let (digest, repository) = (&Digest::sha256(bytes.as_bytes()), &stage.repository);
            let now_ms = self.app.now_ms();
            let put = async |mut tx| registry::blob::put(&mut tx, repository, digest, upload, now_ms).await;
            self.app.store.act(put).await.unwrap();
            describe.push(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}));
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": describe[0], "layers": describe[1..]})
        .to_string();
        self.push_manifest(&stage, MediaType::OCI_MANIFEST, manifest).await
    }

    async fn push_manifest(&self, stage: &Stage, media_type: &str, manifest: String) -> Digest {
        let push = flow::push::Push {
            repository: stage.repository.clone(),
            target: Target::Tag(stage.tag.clone()),
            tags: Vec::new(),
            content_type: Some(media_type.parse().unwrap()),
            bytes: manifest.into(),
        };
        flow::push::manifest(&self.app, &Principal::user("admin"), &push).await.unwrap().digest
    }

    /// The scan of an image ends.
    async fn scanned(&self, at: &str, digest: &Digest, packages: &[(&str, &str)]) {
        let package = |(name, version): &(&str, &str)| Package {
            kind: PackageKind::Deb,
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            arch: "amd64".to_owned(),
            source: (*name).to_owned(),
            source_version: (*version).to_owned(),
            purl: format!("pkg:deb/debian/{name}@{version}"),
            licences: vec!["MIT".to_owned()],
            layer: 0,
            path: "var/lib/dpkg/status".to_owned(),
        };
        let report = Report {
            version: wharf_scan::REPORT_VERSION,
            scanner: wharf_scan::SCANNER.to_owned(),
            image: ImageFacts::default(),
            distro: Some(Distro {
                id: "debian".to_owned(),
                version_id: Some("12".to_owned()),
                codename: None,
                name: None,
            }),
            knowledge: Knowledge::Complete,
            layers: Vec::new(),
            packages: packages.iter().map(package).collect(),
            problems: Vec::new(),
            problems_dropped: 0,
        };
        self.scans.lock().unwrap().insert(digest.clone(), report);
        let work = &Work::Scan { repository: stage_of(at).repository, digest: digest.clone() };
        let enqueue = async |mut tx| jobs::enqueue(&mut tx, work.clone(), None).await;
        self.app.store.act(enqueue).await.unwrap();
        self.runner.as_ref().unwrap().wake(Queue::Scan);
    }

    /// Vulnerability data in which each of these Debian 12 packages has a critical flaw up to a fixed version.
    async fn import(&self, flaws: &[(&str, &str, &str)]) {
        let record = |(id, package, fixed): &(&str, &str, &str)| {
            json!({"id": id, "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
                "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
                "affected": [{"package": {"ecosystem": "Debian:12", "name": package},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]}]})
        };
        let records: Vec<Value> = flaws.iter().map(record).collect();
        let path = self.data.path().join("osv.json");
        std::fs::write(&path, Value::Array(records).to_string()).unwrap();
        let export =
            db_import::Export { source: "test".to_owned(), file: std::fs::File::open(path).unwrap() };
        let imported = db_import::import(&self.app, "admin", vec![export]).await.unwrap();
        assert_eq!(imported.kept, flaws.len() as u64, "{imported:?}");
    }

    async fn bind(&self, name: &str, from: &str, to: &str, policy: Value) -> Bound {
        let binding = binding(name, from, &[(to, "%n")], policy);
        bind::bind(&self.app, &Principal::user("admin"), binding, None).await.unwrap()
    }

    async fn digest_at(&self, at: &str) -> Option<Digest> {
        let stage = stage_of(at);
        registry::tag::find(&self.app.store, &stage.repository, &stage.tag)
            .await
            .unwrap()
            .map(|row| row.digest)
    }

    /// Waits for `what` to come true.
    async fn until<T>(&self, what: &str, mut found: impl AsyncFnMut(&Case) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self).await {
                return found;
            }
            if tokio::time::Instant::now() > deadline {
                let events = event::before(&self.app.store, None, 30).await.unwrap();
                let mut live = Vec::new();
                for queue in Queue::ALL {
                    live.extend(jobs::ls(&self.app.store, queue, false, None, 10).await.unwrap().jobs);
                }
                panic!("waited for {what} in vain; jobs: {live:#?}; the newest events: {events:#?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_at(&self, at: &str, digest: &Digest) {
        self.until(at, async |case| case.digest_at(at).await.filter(|found| found == digest)).await;
    }

    /// Waits for the newest decision of a binding to be one of this verdict.
    async fn until_judged(&self, at: &str, binding: &str, verdict: Verdict) -> Decision {
        let stage = &stage_of(at);
        self.until(&format!("{verdict} of {at} by {binding}"), async |case| {
            let newest = case.newest(stage, binding).await?;
            (newest.verdict == verdict).then_some(newest)
        })
        .await
    }

    async fn newest(&self, stage: &Stage, binding: &str) -> Option<Decision> {
        let history =
            decision::history(&self.app.store, &stage.repository, &stage.tag, None, 100).await.unwrap();
        history.into_iter().find(|decision| decision.authority.binding() == Some(binding))
    }

    /// Waits until every event was read and no job is left but those that wait for a time.
    async fn until_idle(&self) {
        self.until("the end of all work", async |case| {
            let at = jobs::cursor(&case.app.store, jobs::ROUTER).await.unwrap();
            let unread = event::after(&case.app.store, Some(at), 1).await.unwrap();
            let mut live = 0;
            for queue in Queue::ALL {
                live += jobs::ls(&case.app.store, queue, false, None, 1).await.unwrap().jobs.len();
            }
            (unread.events.is_empty() && live == 0).then_some(())
        })
        .await;
    }

    async fn events(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|recorded: &event::Recorded| recorded.id);
            let page = event::after(&self.app.store, after, 1000).await.unwrap();
            all.extend(page.events);
            if !page.more {
                break;
            }
        }
        all.into_iter().map(|recorded| recorded.event).filter(|event| wanted(&event.kind)).collect()
    }

    async fn promotions(&self) -> Vec<(String, String)> {
        let events = self.events(|kind| matches!(kind, Kind::ImagePromoted { .. })).await;
        let of = |event: Event| match event.kind {
            Kind::ImagePromoted { from, to, .. } => (from.to_string(), to.to_string()),
            _ => unreachable!(),
        };
        events.into_iter().map(of).collect()
    }
}

fn open(data: &Path, store: Store) -> App {
    App::over(Config::new(data, ([127, 0, 0, 1], 0).into()), store).unwrap()
}

fn stage_of(at: &str) -> Stage {
    let (repository, tag) = at.split_once(':').unwrap();
    Stage { repository: repository.parse().unwrap(), tag: tag.parse().unwrap() }
}

fn binding(name: &str, from: &str, targets: &[(&str, &str)], policy: Value) -> Binding {
    let target = |(index, (repository, tag)): (usize, &(&str, &str))| json!({"name": format!("t{index}"), "repository": repository, "tag": tag});
    let targets: Vec<Value> = targets.iter().enumerate().map(target).collect();
    let policies = if policy.is_array() { policy } else { json!([policy]) };
    serde_json::from_value(json!({
        "name": name, "repositories": from, "policies": policies, "targets": targets, "as": "admin",
    }))
    .unwrap()
}

/// Not one critical flaw.
fn no_criticals() -> Value {
    json!({"plugin": "criteria", "config": {"criteria": [
        {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
    ]}})
}

fn does(what: &str) -> Value {
    json!({"plugin": "guest", "config": {"do": what}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_held_until_it_is_scanned_and_goes_all_the_way() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("to-prod", "qa/**", "prod/{name}", no_criticals()).await;
    let digest = case.push_unscanned("dev/app:1.4", "clean").await;
    let held = case.until_judged("dev/app:1.4", "to-qa", Verdict::Hold).await;
    assert!(held.facts.is_some() && held.cause.is_some());
    assert_eq!(case.digest_at("qa/app:1.4").await, None);
    case.scanned("dev/app:1.4", &digest, &[("openssl", "3.0.9")]).await;
    case.until_at("qa/app:1.4", &digest).await;
    case.until_at("prod/app:1.4", &digest).await;
    case.until_idle().await;
    let approved = case.until_judged("dev/app:1.4", "to-qa", Verdict::Approve).await;
    assert_eq!(approved.effects[0].outcome, Outcome::Promoted);
    let prod = stage_of("prod/app:1.4");
    let row = registry::tag::find(&case.app.store, &prod.repository, &prod.tag).await.unwrap().unwrap();
    assert_eq!(row.lineage, [stage_of("dev/app:1.4"), stage_of("qa/app:1.4")]);
    let facts = explain::facts(&case.app, &prod.repository, &prod.tag).await.unwrap();
    let stages: Vec<&str> = facts.approvals.iter().map(|approval| approval.stage.as_str()).collect();
    assert_eq!(stages, ["qa/app", "prod/app"]);
    assert_eq!(facts.approvals[0].by, "policy:to-qa");
    let explained = explain::tag(&case.app, &stage_of("dev/app:1.4").repository, &prod.tag).await.unwrap();
    let explained = explained[0].explained.as_ref().unwrap();
    assert!(!explained.traces[0].is_empty(), "the verdict is explained by its questions");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaw_holds_it_back_and_new_data_lets_it_go_without_another_scan() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let digest = case.push("dev/app:1", "bad", &[("openssl", "3.0.1")]).await;
    case.until_idle().await;
    assert_eq!(case.digest_at("qa/app:1").await, None);
    case.scans.lock().unwrap().clear();
    case.import(&[("CVE-2026-1", "openssl", "3.0.1")]).await;
    case.until_at("qa/app:1", &digest).await;
    // And the other way: what was promoted would not be today.
    case.import(&[("CVE-2026-2", "openssl", "4.0")]).await;
    let changed = |kind: &Kind| matches!(kind, Kind::VerdictChanged { was, .. } if was == "approve");
    case.until("a changed verdict", async |case| case.events(changed).await.pop()).await;
    assert_eq!(case.digest_at("qa/app:1").await, Some(digest), "what was promoted stays");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vulnerability_data_nothing_is_clean() {
    let mut case = Case::new().await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("mark")).await;
    case.push("dev/app:1", "x", &[("openssl", "3")]).await;
    let held = case.until("a hold for want of data", async |case| {
        let newest = case.newest(&stage_of("dev/app:1"), "to-qa").await?;
        let because = newest.policies[0].held_because.clone()?;
        (because.code == "no-vulnerability-data").then_some(newest)
    });
    let held = held.await;
    assert_eq!((held.policies[0].said, held.verdict), (Some(Verdict::Approve), Verdict::Hold));
    assert_eq!(case.digest_at("qa/app:1").await, None);
    case.stop().await;
}

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
        crate::plugin::state::quarantine(&case.app.store).await.unwrap().pop()
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

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_is_a_hold_and_the_breaker_says_so() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", does("panic")).await;
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    let stage = stage_of("dev/app:1");
    for _ in 0..3 {
        case.until_idle().await;
        explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
    }
    let open = case.until("an open breaker", async |case| {
        let newest = case.newest(&stage, "to-qa").await?;
        (newest.policies[0].held_because.as_ref()?.code == "breaker-open").then_some(newest)
    });
    assert_eq!(open.await.verdict, Verdict::Hold);
    assert_eq!(case.events(|kind| matches!(kind, Kind::PluginBreakerOpened { .. })).await.len(), 1);
    assert_ne!(case.digest_at("qa/app:1").await, Some(digest));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_branches_and_a_dated_tag_is_made_once_for_each_push() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let targets = [("qa/{name}", "%n"), ("archive/{repository}", "%n-%Y%m%d-%H%M%S%f")];
    let both = binding("both", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
    let first = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &first).await;
    let stage = stage_of("dev/app:1");
    for _ in 0..3 {
        case.until_idle().await;
        explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
    }
    case.until_idle().await;
    assert_eq!(case.promotions().await.len(), 2);
    let second = case.push("dev/app:1", "y", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &second).await;
    case.until_idle().await;
    let promoted = case.promotions().await;
    assert_eq!(promoted.len(), 4, "{promoted:?}");
    let archive: RepoName = "archive/dev/app".parse().unwrap();
    let tags = registry::list::tags(&case.app.store, &archive, None, 10).await.unwrap().unwrap();
    assert_eq!(tags.names.len(), 2);
    // Back to the first image: that is another push, and goes on again.
    case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &first).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_decides_and_does_nothing() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let mut shadow = binding("shadow", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    shadow.mode = Mode::Shadow;
    let admin = Principal::user("admin");
    let bound = bind::bind(&case.app, &admin, shadow.clone(), None).await.unwrap();
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    let decision = case.until_judged("dev/app:1", "shadow", Verdict::Approve).await;
    assert_eq!(decision.effects[0].outcome, Outcome::Shadow);
    assert_eq!(case.digest_at("qa/app:1").await, None);
    shadow.mode = Mode::Enforce;
    let stale = bind::bind(&case.app, &admin, shadow.clone(), Some(bound.revision + 1)).await;
    assert!(matches!(stale, Err(bind::BindError::Revision { .. })));
    bind::bind(&case.app, &admin, shadow, Some(bound.revision)).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_is_a_hold_with_its_reason() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let targets = [("full/{name}", "%n"), ("qa/{name}", "%n")];
    let both = binding("both", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
    let limit = async |mut tx| {
        quota::limit(&mut tx, "full", Some(10));
        Ok::<_, StoreError>(())
    };
    case.app.store.act(limit).await.unwrap();
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    case.until_at("qa/app:1", &digest).await;
    let decision = case.until_judged("dev/app:1", "both", Verdict::Approve).await;
    let Outcome::Held { reason } = &decision.effects[0].outcome else { panic!("{decision:#?}") };
    assert_eq!(reason.code, "quota");
    assert_eq!(decision.effects[1].outcome, Outcome::Promoted);
    let place = Place {
        binding: "both".to_owned(),
        repository: decision.repository.clone(),
        tag: decision.tag.clone(),
    };
    let standing = standing::find(&case.app.store, &place).await.unwrap().unwrap();
    assert!(standing.at_ms.is_some(), "it is tried again");
    let lift = async |mut tx| {
        quota::limit(&mut tx, "full", None);
        Ok::<_, StoreError>(())
    };
    case.app.store.act(lift).await.unwrap();
    explain::ask_again(&case.app, "admin", &decision.repository, &decision.tag).await.unwrap();
    case.until_at("full/app:1", &digest).await;
    assert_eq!(case.promotions().await.len(), 2);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_the_right_holds_and_who_may_not_bind_does_not() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let mut theirs = binding("theirs", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    theirs.owner = "ann".to_owned();
    let ann = Principal::user("ann");
    let refused = bind::bind(&case.app, &ann, theirs.clone(), None).await;
    assert!(matches!(refused, Err(bind::BindError::Refused { .. })));
    let as_admin = binding("theirs", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    assert!(matches!(bind::bind(&case.app, &ann, as_admin, None).await, Err(bind::BindError::Owner(_))));
    bind::bind(&case.app, &Principal::user("admin"), theirs, None).await.unwrap();
    // Her own repositories give no right over a binding of others.
    let own = &Grant {
        subject: Subject::User("ann".to_owned()),
        role: Role::Maintain,
        pattern: "ann/**".parse().unwrap(),
    };
    case.app.store.act(async |mut tx| crate::access::add(&mut tx, own, "admin").await).await.unwrap();
    let mut taken = binding("theirs", "ann/**", &[("ann-qa/{name}", "%n")], no_criticals());
    taken.owner = "ann".to_owned();
    let refused = bind::bind(&case.app, &ann, taken, None).await;
    assert!(matches!(refused, Err(bind::BindError::Refused { .. })), "{refused:?}");
    let digest = case.push("dev/app:1", "x", &[("zlib", "1")]).await;
    let decision = case.until_judged("dev/app:1", "theirs", Verdict::Approve).await;
    let Outcome::Held { reason } = &decision.effects[0].outcome else { panic!("{decision:#?}") };
    assert_eq!(reason.code, "owner-not-allowed");
    for (role, pattern) in [(Role::Read, "dev/**"), (Role::Write, "qa/**")] {
        let grant =
            &Grant { subject: Subject::User("ann".to_owned()), role, pattern: pattern.parse().unwrap() };
        let add = async |mut tx| crate::access::add(&mut tx, grant, "admin").await;
        case.app.store.act(add).await.unwrap();
    }
    explain::ask_again(&case.app, "admin", &decision.repository, &decision.tag).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_or_the_other_bindings_refuse_is_not_bound() {
    let mut case = Case::new().await;
    let admin = Principal::user("admin");
    let wrong = json!([no_criticals(), {"plugin": "criteria", "config": {"criteria": [{"field": "moon"}]}},
        {"plugin": "absent"}]);
    let refused =
        bind::bind(&case.app, &admin, binding("a", "dev/**", &[("qa/{name}", "%n")], wrong), None).await;
    let pointed = refused.unwrap_err().pointed();
    assert!(pointed[0].pointer.starts_with("/policies/1/config/criteria/0"), "{pointed:?}");
    assert_eq!(pointed.last().unwrap().pointer, "/policies/2/plugin");
    case.bind("a", "dev/**", "qa/{name}", no_criticals()).await;
    let circle = binding("b", "qa/**", &[("dev/{name}", "%n")], no_criticals());
    assert!(matches!(bind::bind(&case.app, &admin, circle, None).await, Err(bind::BindError::Cycle(_))));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_by_hand_leaves_its_note_and_the_way_back_is_closed() {
    let mut case = Case::new().await;
    let digest = case.push_unscanned("dev/app:1", "x").await;
    let (dev, qa) = (stage_of("dev/app:1"), stage_of("qa/app:stable"));
    let admin = Principal::user("admin");
    let nobody = by_hand::promote(&case.app, &Principal::user("eve"), &dev, &qa, "").await;
    assert!(matches!(nobody, Err(PromoteError::Refused { .. })));
    let done = by_hand::promote(&case.app, &admin, &dev, &qa, "ticket 7").await.unwrap();
    assert_eq!(case.digest_at("qa/app:stable").await, Some(digest));
    let decision = decision::find(&case.app.store, &dev.repository, &dev.tag, done.decision).await.unwrap();
    let note = json!({"authority": "hand", "by": "admin", "note": "ticket 7"});
    assert_eq!(serde_json::to_value(decision.unwrap().authority).unwrap(), note);
    let back = by_hand::promote(&case.app, &admin, &qa, &dev, "").await;
    assert!(matches!(back, Err(PromoteError::Held(..))), "{back:?}");
    let absent = by_hand::promote(&case.app, &admin, &stage_of("dev/app:none"), &qa, "").await;
    assert!(matches!(absent, Err(PromoteError::NoTag(_))));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_and_writes_nothing() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.push("dev/a:1", "a", &[("openssl", "3.0.1")]).await;
    case.push("dev/b:1", "b", &[("openssl", "3.0.9")]).await;
    case.push("dev/b:2", "c", &[("openssl", "3.1")]).await;
    case.until_idle().await;
    let before = *case.app.store.head().borrow();
    let binding = binding("x", "dev/*", &[("qa/{name}", "%n")], no_criticals());
    let admin = Principal::user("admin");
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let run = dry_run::dry_run(&case.app, &admin, &binding, after.as_deref(), 1).await.unwrap();
        let would = |w: dry_run::Would| (format!("{}:{}", w.repository, w.tag), w.verdict, w.to);
        found.extend(run.tags.into_iter().map(would));
        after = run.next;
        if after.is_none() {
            break;
        }
    }
    let verdicts: Vec<(&str, bool)> =
        found.iter().map(|(at, verdict, _)| (at.as_str(), *verdict == Verdict::Approve)).collect();
    assert_eq!(verdicts, [("dev/a:1", false), ("dev/b:1", true), ("dev/b:2", true)]);
    assert_eq!(found[1].2, ["qa/b:1"]);
    assert_eq!(*case.app.store.head().borrow(), before);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_platform_of_an_index_has_to_pass() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    let mut entries = Vec::new();
    for (architecture, version) in [("amd64", "3.1"), ("arm64", "3.0.1")] {
        let at = format!("dev/app:{architecture}");
        let digest = case.push(&at, architecture, &[("openssl", version)]).await;
        entries.push(
            json!({"mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size(&case, &at).await,
            "platform": {"os": "linux", "architecture": architecture}}),
        );
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries}).to_string();
    let digest = case.push_manifest(&stage_of("dev/app:1"), MediaType::OCI_INDEX, index).await;
    let all = case.until_judged("dev/app:1", "to-qa", Verdict::Hold).await;
    case.until_idle().await;
    assert_eq!(all.policies.len(), 2);
    assert_eq!(case.digest_at("qa/app:1").await, None);
    let mut one = binding("to-qa", "dev/**", &[("qa/{name}", "%n")], no_criticals());
    one.platforms = vec!["linux/amd64".to_owned()];
    bind::bind(&case.app, &Principal::user("admin"), one, None).await.unwrap();
    case.until_at("qa/app:1", &digest).await;
    case.stop().await;
}

async fn size(case: &Case, at: &str) -> u64 {
    let stage = stage_of(at);
    let found = registry::manifest::find(&case.app.store, &stage.repository, &Target::Tag(stage.tag)).await;
    found.unwrap().unwrap().row.size
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_decisions_replay_byte_for_byte() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("criteria", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("guest", "dev/**", "lab/{name}", json!([does("ask"), does("list")])).await;
    case.bind("traps", "dev/**", "pit/{name}", does("panic")).await;
    for n in 0..12 {
        let version = if n % 3 == 0 { "3.0.1" } else { "3.0.9" };
        case.push(
            &format!("dev/app{}:v{n}", n % 4),
            &format!("image {n}"),
            &[("openssl", version), ("zlib", "1")],
        )
        .await;
    }
    case.until_idle().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9"), ("CVE-2026-2", "zlib", "2")]).await;
    case.until_idle().await;
    // The plugins are others by now, and so is the data: what was known then is what counts.
    case.drop_in("guest.wasm", &marked(7));
    case.take_out("criteria.wasm");
    case.until("other plugins", async |case| case.app.plugins.find("criteria").is_none().then_some(())).await;
    case.until_idle().await;
    let replayed = replay::replay(&case.app, &replay::Replay::default()).await.unwrap();
    assert!(replayed.decisions > 40, "{replayed:#?}");
    assert_eq!((replayed.same, replayed.skipped), (replayed.decisions, 0), "{:#?}", replayed.differences);
    // What another policy would have made of them.
    let instead = replay::Instead { plugin: "guest".to_owned(), config: Some(json!({"do": "mark"})) };
    let what = replay::Replay {
        binding: Some("criteria".to_owned()),
        instead: Some(instead),
        ..replay::Replay::default()
    };
    let other = replay::replay(&case.app, &what).await.unwrap();
    assert!(!other.differences.is_empty());
    assert!(other.differences.iter().all(|d| d.verdict == Some(Verdict::Reject)), "{:#?}", other.differences);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_come_back_are_the_facts_that_were_kept() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", no_criticals()).await;
    case.push("dev/app:1", "x", &[("openssl", "3.0.1"), ("zlib", "1")]).await;
    case.until_idle().await;
    let decision = case.newest(&stage_of("dev/app:1"), "to-qa").await.unwrap();
    let digest = decision.facts.unwrap();
    let sealed = crate::facts::stored::read(&case.app.store, &digest).await.unwrap();
    assert_eq!(sealed.digest(), digest);
    assert_eq!(sealed.facts().platforms[0].findings.len(), 1);
    assert_eq!(sealed.facts().platforms[0].labels["team"], "dev");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_binding_or_tag_leaves_no_standing_behind() {
    let mut case = Case::new().await;
    case.bind("a", "dev/**", "qa/{name}", no_criticals()).await;
    case.bind("b", "dev/**", "lab/{name}", no_criticals()).await;
    case.push_unscanned("dev/app:1", "x").await;
    case.push_unscanned("dev/app:2", "x").await;
    case.until_judged("dev/app:2", "b", Verdict::Hold).await;
    case.until_idle().await;
    let admin = Principal::user("admin");
    bind::unbind(&case.app, &admin, "a").await.unwrap();
    let (repository, one) =
        (RepoName::clone(&stage_of("dev/app:1").repository), Tag::clone(&stage_of("x:1").tag));
    flow::delete::target(&case.app, &admin, &repository, &Target::Tag(one)).await.unwrap();
    case.until("standings to go", async |case| {
        let rows = wharf_store::KeyRange::all(wharf_store::Space::Held);
        let rows = case.app.store.scan(rows, 100).await.unwrap().rows;
        // The standing of the second tag with the second binding, and its image.
        (rows.len() == 2).then_some(())
    })
    .await;
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_and_what_a_decision_stands_on_stays() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    case.bind("to-qa", "dev/**", "qa/{name}", json!([no_criticals(), does("list")])).await;
    for content in ["x", "y", "z"] {
        let digest = case.push("dev/app:1", content, &[("openssl", "3.0.9"), (content, "1")]).await;
        case.until_at("qa/app:1", &digest).await;
    }
    case.until_idle().await;
    case.drop_in("guest.wasm", &marked(2));
    let new = wharf_plugin::facts::sha256(&marked(2));
    case.until("a decision by the new plugin", async |case| {
        let newest = case.newest(&stage_of("dev/app:1"), "to-qa").await?;
        newest.policies.iter().any(|judged| judged.plugin_digest == new).then_some(())
    })
    .await;
    case.until_idle().await;
    let (stop, day_ms) = (tokio_util::sync::CancellationToken::new(), 24 * 3600 * 1000);
    let now_ms = case.app.now_ms();
    let none = flow::retention::run(&case.app, now_ms, &stop).await.unwrap();
    assert_eq!((none.events, none.decisions, none.documents, none.plugins), (0, 0, 0, 0));
    assert_eq!(none.promotions, 2, "keys of the first two pushes");
    let later = flow::retention::run(&case.app, now_ms + 400 * day_ms, &stop).await.unwrap();
    assert!(later.decisions >= 2 && later.documents >= 2 && later.events > 4, "{later:?}");
    // What stands can still be explained, and replayed to the byte.
    let stage = stage_of("dev/app:1");
    let stands = explain::tag(&case.app, &stage.repository, &stage.tag).await.unwrap();
    assert!(!stands[0].explained.as_ref().unwrap().traces[0].is_empty());
    let replayed = replay::replay(&case.app, &replay::Replay::default()).await.unwrap();
    assert_eq!((replayed.decisions, replayed.same), (1, 1), "{replayed:#?}");
    let again = flow::retention::run(&case.app, now_ms + 400 * day_ms, &stop).await.unwrap();
    assert_eq!((again.decisions, again.documents), (0, 0));
    case.stop().await;
}

/// Runs `what` over the same data in a runtime of its own, which is then dropped whole: nothing of it runs on, as after a
/// kill.
fn until_killed<F: Future<Output = ()>>(
    data: &Arc<TempDir>,
    store: &Store,
    scans: &Scans,
    what: impl FnOnce(Case) -> F + Send + 'static,
) {
    let (data, store, scans) = (data.clone(), store.clone(), scans.clone());
    let run = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move { what(Case::over(data, store, scans)).await });
        runtime.shutdown_background();
    };
    std::thread::spawn(run).join().unwrap();
    // What the dropped runtime's threads were in the middle of may still end; a killed process' could not.
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn killed_at_any_instant_each_push_is_promoted_exactly_once() {
    const KILLS: u64 = 25;
    let (data, store, scans) =
        (Arc::new(TempDir::new().unwrap()), Store::new(Arc::new(Model::default())), Scans::default());
    let acknowledged: Arc<Mutex<Vec<(String, Digest)>>> = Arc::default();
    until_killed(&data, &store, &scans, async |mut case| {
        flow::account::first_start(&case.app).await.unwrap().unwrap();
        case.drop_in("criteria.wasm", criteria());
        case.start().await;
        case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
        let targets = [("qa/{name}", "%n"), ("archive/{name}", "%n-%Y%m%d-%H%M%S%f")];
        let both = binding("both", "dev/**", &targets, no_criticals());
        bind::bind(&case.app, &Principal::user("admin"), both, None).await.unwrap();
        case.stop().await;
    });
    for kill in 0..KILLS {
        let acknowledged = acknowledged.clone();
        until_killed(&data, &store, &scans, async move |mut case| {
            case.start().await;
            let end = tokio::time::Instant::now() + Duration::from_millis(10 + kill * 41 % 170);
            let mut n = 0;
            while tokio::time::Instant::now() < end {
                let at = format!("dev/app{}:k{kill}-{n}", n % 3);
                let digest = case.push(&at, &format!("{kill} {n}"), &[("openssl", "3.0.9")]).await;
                acknowledged.lock().unwrap().push((at, digest));
                n += 1;
            }
            let (folder, runner) = (case.folder.take(), case.runner.take());
            std::mem::forget(runner);
            tokio::task::spawn_blocking(move || drop(folder)).await.unwrap();
        });
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > KILLS as usize, "this tested nothing");
    until_killed(&data, &store, &scans, async move |mut case| {
        case.start().await;
        case.until_idle().await;
        for (at, digest) in &acknowledged {
            let found = case.digest_at(&at.replacen("dev/", "qa/", 1)).await;
            let why =
                case.newest(&stage_of(at), "both").await.map(|newest| (newest.policies, newest.effects));
            assert_eq!(found.as_ref(), Some(digest), "{at}: {why:#?}");
        }
        let promoted = case.promotions().await;
        let mut once = std::collections::BTreeSet::new();
        for (from, to) in &promoted {
            let place = (from.clone(), to.split(':').next().unwrap().to_owned());
            assert!(once.insert(place), "{from} was promoted to {to} once more");
        }
        assert_eq!(promoted.len(), acknowledged.len() * 2);
        let mut archived = 0;
        for app in 0..3 {
            let archive: RepoName = format!("archive/app{app}").parse().unwrap();
            let tags = registry::list::tags(&case.app.store, &archive, None, 1000).await.unwrap();
            archived += tags.map_or(0, |tags| tags.names.len());
        }
        assert_eq!(archived, acknowledged.len(), "a dated tag for each push, and no more");
        case.stop().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn more_targets_than_one_commit_takes_are_promoted_in_turns() {
    let mut case = Case::new().await;
    case.import(&[("CVE-2026-1", "openssl", "3.0.9")]).await;
    let names: Vec<String> = (0..16).map(|n| format!("t{n}/{{name}}")).collect();
    let targets: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "%n")).collect();
    let many = binding("many", "dev/**", &targets, no_criticals());
    bind::bind(&case.app, &Principal::user("admin"), many, None).await.unwrap();
    let layers: Vec<String> = (0..100).map(|n| format!("layer {n}")).collect();
    let digest = case.push_layers("dev/app:1", &layers).await;
    case.scanned("dev/app:1", &digest, &[("zlib", "1")]).await;
    let stage = stage_of("dev/app:1");
    case.until_at("t0/app:1", &digest).await;
    case.until_idle().await;
    assert!(case.digest_at("t15/app:1").await.is_none(), "this tested nothing");
    let decision = case.newest(&stage, "many").await.unwrap();
    let Outcome::Held { reason } = &decision.effects[15].outcome else { panic!("{decision:#?}") };
    assert_eq!(reason.code, "too-large");
    for _ in 0..4 {
        explain::ask_again(&case.app, "admin", &stage.repository, &stage.tag).await.unwrap();
        case.until_idle().await;
    }
    case.until_at("t15/app:1", &digest).await;
    assert_eq!(case.promotions().await.len(), 16);
    case.stop().await;
}
