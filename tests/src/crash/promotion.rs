//! A chain of bindings under load: dev → qa → prod, with a dated copy of whatever leaves dev, and moves by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use wharf_oci::{Digest, MediaType};
use wharf_tests::client::http;
use wharf_tests::{Image, Server, server};

use super::until_it_dies;

/// How long the work that is left after the last kill may stand still, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Looks in a row that find nothing to do.
const IDLE_LOOKS: u32 = 15;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// One image in so many has a critical flaw, and goes nowhere.
const FLAWED_EVERY: usize = 7;
/// One image in so many is signed, by turns before it is tagged and after.
const SIGNED_EVERY: usize = 3;
/// One push in so many moves the tag `latest`.
const LATEST_EVERY: usize = 4;
/// One image in so many is also promoted by hand.
const HAND_EVERY: usize = 5;

/// Before the first start: a policy in the folder.
pub(super) fn install_policy(data: &Path) -> Result<()> {
    let target = server::root().join("target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "criteria", "--profile", "plugin"])
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&target)
        .current_dir(server::root())
        .status()?;
    ensure!(
        built.success(),
        "the plugin `criteria` does not build; hint: `rustup target add wasm32-unknown-unknown`"
    );
    std::fs::create_dir_all(data.join("plugins"))?;
    std::fs::copy(
        target.join("wasm32-unknown-unknown/plugin/criteria.wasm"),
        data.join("plugins/criteria.wasm"),
    )?;
    Ok(())
}

/// Vulnerability data with one flaw, and the bindings.
pub(super) async fn set_up(server: &Server) -> Result<()> {
    let flaws = json!([{
        "id": "CVE-2026-1", "modified": "2026-11-01T00:00:00Z",
        "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" }],
        "affected": [{ "package": { "ecosystem": "Debian:12", "name": "flawed" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }] }] }],
    }]);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("own.json");
    std::fs::write(&file, flaws.to_string())?;
    server.wharf(&["db", "import", "--covers", "Debian:12", file.to_str().context("a path of text")?])?;
    let policy = json!({ "plugin": "criteria", "config": { "criteria": [
        { "field": "vulnerability_critical", "operator": "lte", "values": ["0"] }] } });
    let to_qa = [("qa", "qa/{name}", "%n"), ("archive", "archive/{name}", "%n-%Y%m%d-%H%M%S%f")];
    let to_prod = [("prod", "prod/{name}", "%n")];
    let api = Api::of(server);
    for (name, from, targets) in [("to-qa", "dev/**", to_qa.as_slice()), ("to-prod", "qa/**", &to_prod)] {
        let target = |(name, repository, tag): &(&str, &str, &str)| json!({ "name": name, "repository": repository, "tag": tag });
        let targets: Vec<Value> = targets.iter().map(target).collect();
        let binding = json!({ "repositories": from, "policies": [policy], "targets": targets });
        let answer =
            api.request(Method::PUT, &format!("/api/v1/bindings/{name}")).json(&binding).send().await?;
        ensure!(answer.status().is_success(), "binding `{name}`: {}", answer.text().await?);
    }
    Ok(())
}

/// Where the server is.
#[derive(Debug, Clone)]
struct Api {
    http: Client,
    url: String,
    password: String,
}

impl Api {
    fn of(server: &Server) -> Api {
        Api { http: http(), url: server.url.clone(), password: server.admin_password.clone() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).basic_auth("admin", Some(&self.password))
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.request(Method::GET, path).send().await?;
        let status = answer.status();
        ensure!(status == StatusCode::OK, "`{path}` is answered by {status}: {}", answer.text().await?);
        Ok(answer.json().await?)
    }

    /// All items of a list in pages.
    async fn items(&self, path: &str) -> Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{sign}limit=500{cursor}")).await?;
            let found = page["items"].as_array().context("no items")?;
            items.extend(found.iter().cloned());
            match page["next"].as_str() {
                // The log of events names a place to go on even at its end.
                Some(next) if !found.is_empty() => cursor = format!("&cursor={next}"),
                _ => return Ok(items),
            }
        }
    }

    async fn tags(&self, repository: &str) -> Result<BTreeSet<String>> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/tags/list?n=10000")).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(BTreeSet::new());
        }
        let list: Value = answer.json().await?;
        Ok(list["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// What a tag points to.
    async fn digest(&self, repository: &str, tag: &str) -> Result<Option<Digest>> {
        let answer = self.request(Method::HEAD, &format!("/v2/{repository}/manifests/{tag}")).send().await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let digest = answer.headers().get("docker-content-digest").context("no digest")?;
                Ok(Some(digest.to_str()?.parse()?))
            }
            status => bail!("`{repository}:{tag}` is answered by {status}"),
        }
    }

    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Digest>> {
        let referrers = self.get(&format!("/v2/{repository}/referrers/{digest}")).await?;
        let listed = referrers["manifests"].as_array().context("no manifests")?;
        listed.iter().map(|entry| Ok(text(&entry["digest"]).parse()?)).collect()
    }

    async fn created(&self, request: RequestBuilder) -> Result<()> {
        let status = request.send().await?.status();
        ensure!(status == StatusCode::CREATED, "it was answered by {status}");
        Ok(())
    }
}

/// One client that pushes into dev, and what it was told.
#[derive(Debug)]
pub(super) struct Stager {
    name: String,
    next: usize,
    /// What was pushed, acknowledged or not.
    images: BTreeMap<Digest, Pushed>,
    /// Moves by hand that were asked for: where to, of which image, and whether they were acknowledged.
    by_hand: BTreeMap<String, (Digest, bool)>,
    /// Tags that were acknowledged, with what they pointed to then.
    acknowledged: Vec<(String, Digest)>,
}

#[derive(Debug, Clone)]
struct Pushed {
    image: Image,
    is_flawed: bool,
    /// Acknowledged.
    signature: Option<Digest>,
}

impl Stager {
    pub(super) fn new(number: usize) -> Self {
        Stager {
            name: format!("app{number}"),
            next: 0,
            images: BTreeMap::new(),
            by_hand: BTreeMap::new(),
            acknowledged: Vec::new(),
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Pushes and promotes, see [`until_it_dies`].
    pub(super) async fn stage_until_it_dies(&mut self, url: &str, password: &str) -> Result<()> {
        let api = Api { http: http(), url: url.to_owned(), password: password.to_owned() };
        until_it_dies(async || self.stage_one(&api).await).await
    }

    async fn stage_one(&mut self, api: &Api) -> Result<()> {
        self.next += 1;
        let (n, dev) = (self.next, format!("dev/{}", self.name));
        let is_flawed = n.is_multiple_of(FLAWED_EVERY);
        let package = if is_flawed { "flawed" } else { "sound" };
        let image = Image::debian(package, &format!("{n}-{}", self.name))?;
        let digest = image.digest();
        for blob in image.layers.iter().chain([&image.config]) {
            push_blob(api, &dev, blob).await?;
        }
        let is_signed = n.is_multiple_of(SIGNED_EVERY);
        let is_signed_first = is_signed && n.is_multiple_of(2);
        let signature = match is_signed_first {
            true => Some(sign(api, &dev, &image).await?),
            false => None,
        };
        let tag = if n.is_multiple_of(LATEST_EVERY) { "latest".to_owned() } else { format!("v{n}") };
        self.images.insert(digest.clone(), Pushed { image: image.clone(), is_flawed, signature });
        push_manifest(api, &dev, &tag, MediaType::OCI_MANIFEST, &image.manifest).await?;
        self.acknowledged.push((tag.clone(), digest.clone()));
        if is_signed && !is_signed_first {
            let signature = Some(sign(api, &dev, &image).await?);
            self.images.insert(digest.clone(), Pushed { image, is_flawed, signature });
        }
        if n.is_multiple_of(HAND_EVERY) {
            let to = format!("hand/{}:m{n}", self.name);
            self.by_hand.insert(to.clone(), (digest.clone(), false));
            let moved = json!({ "from": format!("{dev}:{tag}"), "to": to, "note": "by hand" });
            api.created(api.request(Method::POST, "/api/v1/promotions").json(&moved)).await?;
            self.by_hand.insert(to, (digest, true));
        }
        Ok(())
    }

    /// Every sound image that a tag of dev points to is at every stage; each revision of a tag went to each target once.
    pub(super) async fn check(&self, server: &Server) -> Result<()> {
        let api = Api::of(server);
        let [dev, qa, prod] = ["dev", "qa", "prod"].map(|stage| format!("{stage}/{}", self.name));
        let tags = api.tags(&dev).await?;
        for (tag, digest) in &self.acknowledged {
            ensure!(tags.contains(tag), "acknowledged `{dev}:{tag}` is gone");
            // `latest` has moved on; what was pushed without an answer may have moved it, too.
            let is_there = tag == "latest" || api.digest(&dev, tag).await?.as_ref() == Some(digest);
            ensure!(is_there, "`{dev}:{tag}` is another image than was acknowledged");
        }
        let mut went = Moves::default();
        for tag in &tags {
            let digest =
                api.digest(&dev, tag).await?.with_context(|| format!("`{dev}:{tag}` points nowhere"))?;
            let pushed =
                self.images.get(&digest).with_context(|| format!("`{dev}:{tag}` was never pushed"))?;
            let current = went.take_in(&api, &dev, tag, &digest).await?;
            if pushed.is_flawed {
                ensure!(current.is_empty(), "flawed `{dev}:{tag}` went to {current:?}");
                continue;
            }
            ensure!(current.len() == 2, "`{dev}:{tag}` went to {current:?}");
            for to in current.iter().chain([&format!("{prod}:{tag}")]) {
                self.pulls(&api, to, &digest).await?;
            }
        }
        // Of `latest`, a sound image stands in qa while a flawed one stands in dev.
        for tag in api.tags(&qa).await? {
            let digest =
                api.digest(&qa, &tag).await?.with_context(|| format!("`{qa}:{tag}` points nowhere"))?;
            let pushed =
                self.images.get(&digest).with_context(|| format!("`{qa}:{tag}` was never pushed"))?;
            ensure!(!pushed.is_flawed, "`{qa}:{tag}` is flawed");
            let current = went.take_in(&api, &qa, &tag, &digest).await?;
            ensure!(current == [format!("{prod}:{tag}")], "`{qa}:{tag}` went to {current:?}");
        }
        went.are_what_is_there(&api, &self.name).await?;
        for (to, (digest, acknowledged)) in &self.by_hand {
            let made = went.by_hand.iter().filter(|made| *made == to).count();
            ensure!(made == 1 || (made == 0 && !acknowledged), "`{to}` was made {made} times");
            if made == 1 {
                self.pulls(&api, to, digest).await?;
            }
        }
        Ok(())
    }

    /// The image is there with all its bytes and its signature.
    async fn pulls(&self, api: &Api, at: &str, digest: &Digest) -> Result<()> {
        let (repository, tag) = at.split_once(':').context("no tag")?;
        let found = api.digest(repository, tag).await?;
        ensure!(found.as_ref() == Some(digest), "`{at}` is {found:?}, not `{digest}`");
        let Pushed { image, signature, .. } = self.images.get(digest).context("never pushed")?;
        for blob in image.layers.iter().chain([&image.config]) {
            let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(blob));
            let answer = api.request(Method::GET, &path).send().await?;
            ensure!(answer.status() == StatusCode::OK, "`{path}` is answered by {}", answer.status());
            ensure!(answer.bytes().await? == blob, "`{path}` has other bytes");
        }
        let (found, signed) = (
            api.referrers(repository, digest).await?,
            api.referrers(&format!("dev/{}", self.name), digest).await?,
        );
        ensure!(found == signed, "the referrers of `{at}` are {found:?}, not {signed:?}");
        let is_kept = signature.as_ref().is_none_or(|signature| signed.contains(signature));
        ensure!(is_kept, "the acknowledged signature of `{digest}` is gone");
        Ok(())
    }
}

/// All moves out of the repositories of one stager, by their decisions.
#[derive(Debug, Default)]
struct Moves {
    /// Where each (binding, repository, tag, revision) went, by target.
    by_policy: BTreeMap<(String, String, u64, String), String>,
    by_hand: Vec<String>,
}

impl Moves {
    /// Reads the history of a tag. Returns where the image went that it points to now.
    async fn take_in(
        &mut self,
        api: &Api,
        repository: &str,
        tag: &str,
        digest: &Digest,
    ) -> Result<Vec<String>> {
        let mut current = Vec::new();
        for decision in api.items(&format!("/api/v1/decisions?image={repository}:{tag}")).await? {
            let revision = decision["tag-revision"].as_u64().context("no revision")?;
            for effect in decision["effects"].as_array().into_iter().flatten() {
                let to = effect["to"].as_str().unwrap_or_default().to_owned();
                if effect["outcome"] != "promoted" {
                    continue;
                }
                let Some(binding) = decision["binding"].as_str() else {
                    self.by_hand.push(to);
                    continue;
                };
                let target = effect["target"].as_str().unwrap_or_default().to_owned();
                if decision["digest"] == digest.as_str() {
                    current.push(to.clone());
                }
                let key = (binding.to_owned(), format!("{repository}:{tag}"), revision, target);
                let first = self.by_policy.insert(key.clone(), to.clone());
                ensure!(first.is_none(), "{key:?} was promoted to {first:?} and again to `{to}`");
            }
        }
        Ok(current)
    }

    /// The dated tags are those that decisions made and no others, and the log tells of each move once.
    async fn are_what_is_there(&self, api: &Api, name: &str) -> Result<()> {
        let archive = format!("archive/{name}");
        let made: Vec<&String> = self.by_policy.values().filter(|to| to.starts_with(&archive)).collect();
        let there: BTreeSet<String> =
            api.tags(&archive).await?.into_iter().map(|tag| format!("{archive}:{tag}")).collect();
        ensure!(made.len() == there.len(), "{} decisions made {} dated tags", made.len(), there.len());
        ensure!(made.iter().all(|to| there.contains(*to)), "{made:?} is not {there:?}");
        let mut told = Vec::new();
        for event in api.items("/api/v1/events?kind=image-promoted").await? {
            let from = |stage: &str| event["from"]["repository"] == format!("{stage}/{name}");
            if from("dev") || from("qa") {
                let (repository, tag) = (&event["to"]["repository"], &event["to"]["tag"]);
                told.push(format!("{}:{}", text(repository), text(tag)));
            }
        }
        let mut decided: Vec<String> = self.by_policy.values().chain(&self.by_hand).cloned().collect();
        told.sort();
        decided.sort();
        ensure!(told == decided, "the log tells of {} moves, decisions of {}", told.len(), decided.len());
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn push_blob(api: &Api, repository: &str, blob: &[u8]) -> Result<()> {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::sha256(blob));
    api.created(api.request(Method::POST, &path).body(blob.to_vec())).await
}

async fn push_manifest(
    api: &Api,
    repository: &str,
    target: &str,
    media_type: &str,
    manifest: &[u8],
) -> Result<()> {
    let request = api.request(Method::PUT, &format!("/v2/{repository}/manifests/{target}"));
    api.created(request.header("Content-Type", media_type).body(manifest.to_vec())).await
}

/// Pushes the image without a tag, and a signature of it.
async fn sign(api: &Api, repository: &str, image: &Image) -> Result<Digest> {
    let digest = image.digest();
    push_manifest(api, repository, digest.as_str(), MediaType::OCI_MANIFEST, &image.manifest).await?;
    let empty = b"{}";
    push_blob(api, repository, empty).await?;
    let nothing = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(empty), "size": 2 });
    let signature = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/vnd.example.signature",
        "config": nothing, "layers": [nothing],
        "subject": { "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": image.manifest.len() },
    })
    .to_string();
    let signed = Digest::sha256(signature.as_bytes());
    push_manifest(api, repository, signed.as_str(), MediaType::OCI_MANIFEST, signature.as_bytes()).await?;
    Ok(signed)
}

/// Waits until all is as it should be once the work is done. What was held because the machine stalled is asked again after a
/// while, in which there is no job; whatever is wrong stays so.
pub(super) async fn until_right(server: &Server, stagers: &[Stager]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        until_idle(server).await?;
        match try_join_all(stagers.iter().map(|stager| stager.check(server))).await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
            Ok(_) => return Ok(()),
        }
    }
}

/// Waits until no job is left that works on an image.
async fn until_idle(server: &Server) -> Result<()> {
    let api = Api::of(server);
    let (mut before, mut since) = (Vec::new(), Instant::now());
    let mut looks = 0;
    // Of the last events the router makes jobs within a moment: one look is not enough.
    while looks < IDLE_LOOKS {
        let mut left = Vec::new();
        for queue in ["scan", "judge", "rejudge", "follow"] {
            left.extend(api.items(&format!("/api/v1/jobs?state=live&queue={queue}")).await?);
        }
        looks = if left.is_empty() { looks + 1 } else { 0 };
        if left != before {
            (before, since) = (left, Instant::now());
        }
        ensure!(since.elapsed() < PATIENCE, "{} jobs have no end: {:#?}", before.len(), before.first());
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
