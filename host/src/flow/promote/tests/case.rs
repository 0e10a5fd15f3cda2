//! A server without its surfaces: what the stories of these tests act on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_oci::{Digest, ManifestKind, MediaType, RepoName, Target};
use wharf_plugin::watch::WatchConfig;
use wharf_scan::{Distro, ImageFacts, Knowledge, Package, PackageKind, Report};
use wharf_store::{Model, Store};

use super::guests::{criteria, guest};
use crate::access::{self, Grant, Principal, Role, Subject};
use crate::config::Config;
use crate::event::{self, Event, Kind, Stage};
use crate::flow::plugin_drop::{self, PluginFolder};
use crate::flow::promote::bind;
use crate::flow::{self, db_import, scan_image};
use crate::jobs::{self, Queue, Runner, Settings, Work};
use crate::plugin::state;
use crate::promote::{Binding, Bound, Decision, Verdict, decision};
use crate::registry::copy::MANIFESTS_MAX;
use crate::registry::manifest::DESCRIPTORS_MAX;
use crate::{App, registry};

/// Longer than anything here takes, on a loaded machine; shorter than what is put off until a retry.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What the scans of these tests find, by digest; an image that is not here waits for its scan.
pub(super) type Scans = Arc<Mutex<HashMap<Digest, Report>>>;

pub(super) struct Case {
    pub(super) app: App,
    pub(super) data: Arc<TempDir>,
    pub(super) scans: Scans,
    pub(super) runner: Option<Runner>,
    pub(super) folder: Option<PluginFolder>,
}

impl Case {
    pub(super) async fn new() -> Case {
        let (data, store) = (Arc::new(TempDir::new().unwrap()), Store::new(Arc::new(Model::default())));
        let mut case = Case::over(data, store, Scans::default());
        flow::account::first_start(&case.app).await.unwrap().unwrap();
        case.drop_in("criteria.wasm", criteria());
        case.drop_in("guest.wasm", guest());
        case.start().await;
        case
    }

    pub(super) fn over(data: Arc<TempDir>, store: Store, scans: Scans) -> Case {
        Case { app: open(data.path(), store), data, scans, runner: None, folder: None }
    }

    pub(super) async fn start(&mut self) {
        let watch = WatchConfig { debounce_ms: 20, max_debounce_ms: 100, settle_ms: 5, poll_ms: 200 };
        self.folder = Some(plugin_drop::start(&self.app, watch).await.unwrap());
        self.until("what is in force to be written down", async |case| {
            let rows = state::active(&case.app.store).await.unwrap();
            let set = case.app.plugins.catalog().current();
            let in_force = set.plugins().values().map(|plugin| plugin.digest());
            rows.iter().map(|row| row.digest.as_str()).eq(in_force).then_some(())
        })
        .await;
        let (app, scans, real) = (self.app.clone(), self.scans.clone(), jobs::handler(self.app.clone()));
        // Everything as in a server, but the scan worker: the tests' own program is none.
        let handler: jobs::Handler = Arc::new(move |job| match job.work() {
            Work::Scan { repository, digest } => {
                let report = scans.lock().unwrap().get(digest).cloned();
                let (app, repository, digest) = (app.clone(), repository.clone(), digest.clone());
                Box::pin(async move {
                    let known = crate::facts::scanned::find(&app.store, &digest).await?;
                    let manifest = registry::manifest::parsed(&app.store, &repository, &digest).await?;
                    let is_index = manifest.is_some_and(|manifest| manifest.kind == ManifestKind::Index);
                    let done = match (report, known) {
                        (None, None) if is_index => {
                            scan_image::image(&app, &repository, &digest, false).await.map(drop)
                        }
                        (_, Some(_)) => scan_image::image(&app, &repository, &digest, false).await.map(drop),
                        (Some(report), None) => scan_image::finish(&app, &repository, &digest, report).await,
                        (None, None) => Ok(()),
                    };
                    done.map_err(jobs::Failure::new)
                })
            }
            _ => real(job),
        });
        let settings = Settings { grace_s: 1, ..Settings::default() };
        let store = self.app.store.clone();
        self.runner = Some(Runner::start(store, settings, jobs::route, Vec::new(), handler).await.unwrap());
    }

    pub(super) async fn stop(&mut self) {
        if let Some(runner) = self.runner.take() {
            runner.stop().await;
        }
        let folder = self.folder.take();
        tokio::task::spawn_blocking(move || drop(folder)).await.unwrap();
    }

    pub(super) fn drop_in(&self, file: &str, bytes: &[u8]) {
        let folder: PathBuf = self.data.path().join("plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let partial = folder.join(format!(".{file}"));
        std::fs::write(&partial, bytes).unwrap();
        std::fs::rename(partial, folder.join(file)).unwrap();
    }

    pub(super) fn take_out(&self, file: &str) {
        std::fs::remove_file(self.data.path().join("plugins").join(file)).unwrap();
    }

    /// Takes a plugin out of force.
    pub(super) async fn take_out_of_force(&self, name: &str) {
        self.take_out(&format!("{name}.wasm"));
        let is_gone = async |case: &Case| case.app.plugins.find(name).is_none().then_some(());
        self.until(&format!("the end of plugin {name}"), is_gone).await;
    }

    /// Pushes an image whose one layer holds `content`, and says what its scan will find.
    pub(super) async fn push(&self, at: &str, content: &str, packages: &[(&str, &str)]) -> Digest {
        let digest = self.push_unscanned(at, content).await;
        self.scanned(at, &digest, packages).await;
        digest
    }

    pub(super) async fn push_unscanned(&self, at: &str, content: &str) -> Digest {
        self.push_layers(at, &[content.to_owned()]).await
    }

    pub(super) async fn push_layers(&self, at: &str, layers: &[String]) -> Digest {
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Labels": {"team": "dev"}},
            "rootfs": {"type": "layers", "diff_ids": []}})
        .to_string();
        self.push_configured(at, config, layers).await
    }

    pub(super) async fn push_configured(&self, at: &str, config: String, layers: &[String]) -> Digest {
        let stage = stage_of(at);
        let layer = |content: &String| ("application/vnd.oci.image.layer.v1.tar+gzip", content.clone());
        let mut describe = Vec::new();
        for (media_type, bytes) in
            [(MediaType::OCI_CONFIG, config)].into_iter().chain(layers.iter().map(layer))
        {
            let digest = self.blob(&stage.repository, &bytes).await;
            describe.push(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}));
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": describe[0], "layers": describe[1..]})
        .to_string();
        self.push_manifest(&stage, MediaType::OCI_MANIFEST, manifest).await
    }

    /// Pushes an attestation as BuildKit makes one: an image's configuration, and a statement in place of layers.
    pub(super) async fn push_statement(&self, at: &str) -> Digest {
        let stage = stage_of(at);
        let mut describe = Vec::new();
        for media_type in [MediaType::OCI_CONFIG, "application/vnd.in-toto+json"] {
            let digest = self.blob(&stage.repository, "{}").await;
            describe.push(json!({"mediaType": media_type, "digest": digest, "size": 2}));
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": describe[0], "layers": describe[1..]})
        .to_string();
        self.push_manifest(&stage, MediaType::OCI_MANIFEST, manifest).await
    }

    /// Pushes indexes that name more manifests than one copy takes, and returns entries for them. None of what they name is
    /// there, and each name has to be looked for.
    pub(super) async fn push_too_many(&self, repository: &str) -> Vec<Value> {
        let entry = |media_type: &str, digest: &Digest, size: usize| {
            json!({"mediaType": media_type, "digest": digest, "size": size,
                "platform": {"os": "unknown", "architecture": "unknown"}})
        };
        let mut entries = Vec::new();
        for part in 0..=MANIFESTS_MAX / DESCRIPTORS_MAX {
            let absent = (0..DESCRIPTORS_MAX).map(|n| Digest::sha256(format!("{part} {n}").as_bytes()));
            let absent: Vec<Value> = absent.map(|of| entry(MediaType::OCI_MANIFEST, &of, 1)).collect();
            let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": absent})
                .to_string();
            let (at, size) = (stage_of(&format!("{repository}:part{part}")), index.len());
            let digest = self.push_manifest(&at, MediaType::OCI_INDEX, index).await;
            entries.push(entry(MediaType::OCI_INDEX, &digest, size));
        }
        entries
    }

    pub(super) async fn blob(&self, repository: &RepoName, content: &str) -> Digest {
        let mut upload = self.app.blobs.create(repository.as_str(), false).await.unwrap();
        upload.write(Bytes::copy_from_slice(content.as_bytes())).await.unwrap();
        let (upload, digest) = (&upload.finish(false).await.unwrap(), &Digest::sha256(content.as_bytes()));
        let now_ms = self.app.now_ms();
        let put = async |mut tx| registry::blob::put(&mut tx, repository, digest, upload, now_ms).await;
        self.app.store.act(put).await.unwrap();
        digest.clone()
    }

    /// Pushes a manifest without a tag that says something of another.
    pub(super) async fn refer(&self, repository: &str, subject: &Digest, content: &str) -> Digest {
        self.refer_with(repository, subject, ("application/vnd.example.said", content), &[]).await
    }

    /// With a config of that type and content, and a layer of each type.
    pub(super) async fn refer_with(
        &self,
        repository: &str,
        subject: &Digest,
        config: (&str, &str),
        layers: &[&str],
    ) -> Digest {
        let repository: RepoName = repository.parse().unwrap();
        let mut describe = Vec::new();
        for (media_type, content) in [config].into_iter().chain(layers.iter().map(|of| (*of, "layer"))) {
            let digest = self.blob(&repository, content).await;
            describe.push(json!({"mediaType": media_type, "digest": digest, "size": content.len()}));
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "artifactType": "application/vnd.example.said", "config": describe[0], "layers": describe[1..],
            "subject": {"mediaType": MediaType::OCI_MANIFEST, "digest": subject, "size": 1}})
        .to_string();
        let push = flow::push::Push {
            repository,
            target: Target::Digest(Digest::sha256(manifest.as_bytes())),
            tags: Vec::new(),
            content_type: Some(MediaType::OCI_MANIFEST.parse().unwrap()),
            bytes: manifest.into(),
        };
        flow::push::manifest(&self.app, &Principal::user("admin"), &push).await.unwrap().digest
    }

    /// What is said of an image in a repository.
    pub(super) async fn referrers(&self, repository: &str, subject: &Digest) -> Vec<Digest> {
        let repository: RepoName = repository.parse().unwrap();
        let found = registry::referrer::list(&self.app.store, &repository, subject, None, None, 100).await;
        found.unwrap().descriptors.into_iter().map(|descriptor| descriptor.digest).collect()
    }

    pub(super) async fn until_referred(&self, repository: &str, subject: &Digest, referrer: &Digest) {
        self.until(&format!("{referrer} in {repository}"), async |case| {
            case.referrers(repository, subject).await.contains(referrer).then_some(())
        })
        .await;
    }

    pub(super) async fn push_manifest(&self, stage: &Stage, media_type: &str, manifest: String) -> Digest {
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
    pub(super) async fn scanned(&self, at: &str, digest: &Digest, packages: &[(&str, &str)]) {
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
    pub(super) async fn import(&self, flaws: &[(&str, &str, &str)]) {
        let record = |(id, package, fixed): &(&str, &str, &str)| {
            json!({"id": id, "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
                "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
                "affected": [{"package": {"ecosystem": "Debian:12", "name": package},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]}]})
        };
        let records: Vec<Value> = flaws.iter().map(record).collect();
        let path = self.data.path().join("osv.json");
        std::fs::write(&path, Value::Array(records).to_string()).unwrap();
        let export = db_import::Export {
            source: "test".parse().unwrap(),
            file: std::fs::File::open(path).unwrap(),
            covers: vec!["Debian:12".parse().unwrap()],
        };
        let imported = db_import::import(&self.app, "admin", vec![export], true).await.unwrap();
        assert_eq!(imported.kept, flaws.len() as u64, "{imported:?}");
    }

    pub(super) async fn add_user(&self, name: &str) {
        let (admin, name) = (Principal::user("admin"), name.parse().unwrap());
        flow::account::add_user(&self.app, &admin, &name, None).await.unwrap();
    }

    pub(super) async fn grant(&self, user: &str, role: Role, pattern: &str) {
        let (subject, pattern) = (Subject::User(user.to_owned()), pattern.parse().unwrap());
        let grant = &Grant { subject, role, pattern };
        self.app.store.act(async |mut tx| access::add(&mut tx, grant, "admin").await).await.unwrap();
    }

    pub(super) async fn bind(&self, name: &str, from: &str, to: &str, policy: Value) -> Bound {
        let binding = binding(name, from, &[(to, "%n")], policy);
        bind::bind(&self.app, &Principal::user("admin"), binding, None).await.unwrap()
    }

    pub(super) async fn digest_at(&self, at: &str) -> Option<Digest> {
        let stage = stage_of(at);
        registry::tag::find(&self.app.store, &stage.repository, &stage.tag)
            .await
            .unwrap()
            .map(|row| row.digest)
    }

    /// Waits for `what` to come true.
    pub(super) async fn until<T>(&self, what: &str, mut found: impl AsyncFnMut(&Case) -> Option<T>) -> T {
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

    pub(super) async fn until_at(&self, at: &str, digest: &Digest) {
        self.until(at, async |case| case.digest_at(at).await.filter(|found| found == digest)).await;
    }

    /// Waits for the newest decision of a binding to be one of this verdict.
    pub(super) async fn until_judged(&self, at: &str, binding: &str, verdict: Verdict) -> Decision {
        let stage = &stage_of(at);
        self.until(&format!("{verdict} of {at} by {binding}"), async |case| {
            let newest = case.newest(stage, binding).await?;
            (newest.verdict == verdict).then_some(newest)
        })
        .await
    }

    pub(super) async fn newest(&self, stage: &Stage, binding: &str) -> Option<Decision> {
        let history =
            decision::history(&self.app.store, &stage.repository, &stage.tag, None, 100).await.unwrap();
        history.into_iter().find(|decision| decision.authority.binding() == Some(binding))
    }

    /// Whether every event was read and no job is left.
    pub(super) async fn is_idle(&self) -> bool {
        let at = jobs::cursor(&self.app.store, jobs::ROUTER).await.unwrap();
        let all_read = async || event::after(&self.app.store, Some(at), 1).await.unwrap().events.is_empty();
        let none_lives =
            async || jobs::live(&self.app.store).await.unwrap().iter().all(|(_, live)| *live == 0);
        // A job that ended in between has left an event.
        all_read().await && none_lives().await && all_read().await
    }

    pub(super) async fn until_idle(&self) {
        self.until("the end of all work", async |case| case.is_idle().await.then_some(())).await;
    }

    /// Puts a plugin in force.
    pub(super) async fn put_in_force(&self, name: &str, bytes: &[u8]) {
        self.drop_in(&format!("{name}.wasm"), bytes);
        let digest = wharf_plugin::facts::sha256(bytes);
        self.until(&format!("plugin {name}"), async |case| {
            case.app.plugins.find(name).filter(|plugin| plugin.digest() == digest).map(drop)
        })
        .await;
    }

    pub(super) async fn events(&self, wanted: impl Fn(&Kind) -> bool) -> Vec<Event> {
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

    pub(super) async fn promotions(&self) -> Vec<(String, String)> {
        let events = self.events(|kind| matches!(kind, Kind::ImagePromoted { .. })).await;
        let of = |event: Event| match event.kind {
            Kind::ImagePromoted { from, to, .. } => (from.to_string(), to.to_string()),
            _ => unreachable!(),
        };
        events.into_iter().map(of).collect()
    }
}

pub(super) fn open(data: &Path, store: Store) -> App {
    let mut config = Config::new(data, ([127, 0, 0, 1], 0).into());
    // No call runs out of time but one that has no end: nobody here asks again when it may.
    config.plugin.time_ms = 1_000;
    App::over(config, store).unwrap()
}

pub(super) fn stage_of(at: &str) -> Stage {
    let (repository, tag) = at.split_once(':').unwrap();
    Stage { repository: repository.parse().unwrap(), tag: tag.parse().unwrap() }
}

pub(super) fn binding(name: &str, from: &str, targets: &[(&str, &str)], policy: Value) -> Binding {
    let target = |(index, (repository, tag)): (usize, &(&str, &str))| json!({"name": format!("t{index}"), "repository": repository, "tag": tag});
    let targets: Vec<Value> = targets.iter().enumerate().map(target).collect();
    let policies = if policy.is_array() { policy } else { json!([policy]) };
    serde_json::from_value(json!({
        "name": name, "repositories": from, "policies": policies, "targets": targets, "as": "admin",
    }))
    .unwrap()
}

/// Not one critical flaw.
pub(super) fn no_criticals() -> Value {
    json!({"plugin": "criteria", "config": {"criteria": [
        {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
    ]}})
}

pub(super) fn does(what: &str) -> Value {
    json!({"plugin": "guest", "config": {"do": what}})
}
