//! `wharf db import` and `wharf scan` without a server: the real binary, its real worker, small images.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_oci::Digest;
use wharf_tests::{Image, Server, server};

fn wharf(arguments: &[&str]) -> Output {
    // What the caller's environment says of users and servers must not decide a test.
    Command::new(server::binary()).args(arguments).env_clear().output().expect("`wharf` runs")
}

fn answer(arguments: &[&str]) -> Value {
    let output = wharf(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An OCI layout of one image.
fn layout(folder: &Path, image: &Image) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
        fs::write(blobs.join(Digest::sha256(blob).hex()), blob).unwrap();
    }
    let manifest = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image.digest(), "size": image.manifest.len() });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// A folder with an image of `hello 2.10-3` and a database that says that 2.10-4 fixes a flaw in it.
fn prepared() -> (TempDir, String, String) {
    let folder = TempDir::new().unwrap();
    let image = folder.path().join("image");
    layout(&image, &Image::debian("hello", "2.10-3").unwrap());
    let records = json!([{
        "id": "DEBIAN-CVE-2026-1", "upstream": ["CVE-2026-1"], "modified": "2026-11-01T00:00:00Z",
        "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N" }],
        "affected": [{ "package": { "ecosystem": "Debian:12", "name": "hello" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "2.10-4" }] }] }],
    }]);
    let file = folder.path().join("own.json");
    fs::write(&file, records.to_string()).unwrap();
    let db = folder.path().join("own.db").to_str().unwrap().to_owned();
    let import = ["db", "import", "--db", &db, "--covers", "Debian:12", "--output", "json"];
    let done = answer(&[&import[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(done["kept"], 1);
    let release = &answer(&["db", "status", "--db", &db, "--output", "json"])["releases"]["Debian:12"];
    assert_eq!((&release["records"], &release["covered"]), (&json!(1), &json!(true)));
    (folder, image.to_str().unwrap().to_owned(), db)
}

#[test]
fn an_image_is_scanned_and_matched() {
    let (_folder, image, db) = prepared();
    let scanned = answer(&["scan", &image, "--db", &db, "--output", "json"]);
    assert_eq!(scanned["report"]["knowledge"], "complete");
    assert_eq!(
        scanned["report"]["packages"][0]["purl"],
        "pkg:deb/debian/hello@2.10-3?arch=amd64&distro=debian-12"
    );
    let findings = scanned["findings"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1);
    assert_eq!((&findings[0]["id"], &findings[0]["fixed_in"]), (&json!("CVE-2026-1"), &json!("2.10-4")));
    assert_eq!((&findings[0]["severity"], &findings[0]["cvss"]), (&json!("high"), &json!(7.5)));

    let bill = answer(&["scan", &image, "--db", &db, "--output", "cyclonedx"]);
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    assert_eq!(bill["vulnerabilities"][0]["id"], "CVE-2026-1");
}

#[test]
fn the_exit_status_is_a_gate_that_fails_closed() {
    let (_folder, image, db) = prepared();
    let status = |arguments: &[&str]| wharf(arguments).status.code();
    assert_eq!(status(&["scan", &image, "--db", &db, "--fail-on", "high"]), Some(3));
    assert_eq!(status(&["scan", &image, "--db", &db, "--fail-on", "critical"]), Some(0));
    // Without data nothing is known, and that does not pass.
    assert_eq!(status(&["scan", &image, "--fail-on", "critical"]), Some(3));
    assert_eq!(status(&["scan", &image]), Some(0));
    assert_eq!(status(&["scan", &image, "--db", "/nonexistent"]), Some(1));
}

#[test]
fn without_data_there_are_no_findings_and_that_is_said() {
    let (_folder, image, _) = prepared();
    let output = wharf(&["scan", &image]);
    assert!(
        text(&output.stdout).contains("not known: there is no vulnerability database"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_worker_that_dies_is_an_error_with_its_reason() {
    let (_folder, image, _) = prepared();
    let output = wharf(&["scan", &image, "--memory-mib", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("the scan worker aborted") && error.contains("memory allocation"), "{error}");
}

/// A layer that unpacks to gigabytes of zeros between two good ones: it ends at its bound, the others are read.
#[test]
fn a_bomb_costs_its_own_layer() {
    let folder = TempDir::new().unwrap();
    let mut image = Image::debian("hello", "2.10-3").unwrap();
    image.layers.push(bomb(2 << 30));
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let bomb = image.layers.last().unwrap();
    let layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
        "digest": Digest::sha256(bomb), "size": bomb.len() });
    manifest["layers"].as_array_mut().unwrap().push(layer);
    image.manifest = manifest.to_string().into_bytes();
    layout(folder.path(), &image);
    let scanned = answer(&["scan", folder.path().to_str().unwrap(), "--output", "json"]);
    assert_eq!(scanned["report"]["knowledge"], "partial");
    assert_eq!(scanned["report"]["packages"][0]["name"], "hello");
    let problems = scanned["report"]["problems"].as_array().unwrap();
    let limit = problems.iter().find(|p| p["code"] == "limit").expect("the bound is told");
    assert_eq!(limit["layer"], 1);
}

/// A zstd frame of run-length blocks, 128 KiB of zeros in four bytes each.
fn bomb(bytes: usize) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let blocks = bytes / BLOCK;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    for i in 1..=blocks {
        let head = BLOCK << 3 | 1 << 1 | usize::from(i == blocks);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Record and release are real; that there is but one record of it is not.
#[test]
fn single_records_do_not_make_an_image_known_and_a_cut_file_replaces_nothing() {
    let (folder, image, db) = prepared();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let import =
        |file: &str, more: &[&str]| wharf(&[&["db", "import", "--db", &db, file][..], more].concat());
    let findings = || answer(&["scan", &image, "--db", &db, "--output", "json"])["findings"].clone();

    // The same records without the word that they are all there is: not unasked.
    let refused = import(&path("own.json"), &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("covered Debian:12 before"), "{}", text(&refused.stderr));
    assert_eq!(import(&path("own.json"), &["--force"]).status.code(), Some(0));
    let found = findings();
    assert_eq!((&found["knowledge"], &found["coverage"]), (&json!("none"), &json!([])));
    assert_eq!(found["findings"][0]["id"], "CVE-2026-1");
    assert!(found["why"].as_str().unwrap().contains("--covers Debian:12"), "{found}");
    assert_eq!(wharf(&["scan", &image, "--db", &db, "--fail-on", "critical"]).status.code(), Some(3));

    assert_eq!(import(&path("own.json"), &["--covers", "Debian:12"]).status.code(), Some(0));
    let before = fs::read(&db).unwrap();
    let whole = fs::read(path("own.json")).unwrap();
    fs::write(path("cut.json"), &whole[..whole.len() - 1]).unwrap();
    let refused = import(&path("cut.json"), &["--source", "own"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    let refused = import(&path("own.json"), &["--covers", "Debian:13"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert_eq!(fs::read(&db).unwrap(), before);
}

#[test]
fn a_file_with_less_than_half_the_records_is_taken_only_by_force() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let records = |n: usize| {
        let record = |i| {
            json!({ "id": format!("CVE-2026-{i}"), "modified": "2026-11-01T00:00:00Z",
                "affected": [{ "package": { "ecosystem": "Debian:12", "name": "hello" }, "versions": ["1"] }] })
        };
        fs::write(path("own.json"), Value::from_iter((0..n).map(record)).to_string()).unwrap();
    };
    let import = |more: &[&str]| {
        let (db, file) = (path("own.db"), path("own.json"));
        wharf(&[&["db", "import", "--db", &db, &file][..], more].concat())
    };
    records(5);
    assert_eq!(import(&[]).status.code(), Some(0));
    let before = fs::read(path("own.db")).unwrap();
    records(2);
    let refused = import(&[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("`--force`"), "{}", text(&refused.stderr));
    assert_eq!(fs::read(path("own.db")).unwrap(), before);
    assert_eq!(import(&["--force"]).status.code(), Some(0));
    assert_ne!(fs::read(path("own.db")).unwrap(), before);
}

/// Regression: records that cannot be read were told of at their import and never again.
#[test]
fn malformed_records_are_shown_with_their_source() {
    let (folder, _, db) = prepared();
    let file = folder.path().join("own.json");
    let mut records: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    records.as_array_mut().unwrap().push(json!({ "id": "CVE-2026-2" }));
    fs::write(&file, records.to_string()).unwrap();
    let import = ["db", "import", "--db", &db, "--covers", "Debian:12", "--output", "json"];
    assert_eq!(answer(&[&import[..], &[file.to_str().unwrap()]].concat())["malformed"], 1);
    let source = &answer(&["db", "status", "--db", &db, "--output", "json"])["sources"][0];
    assert_eq!((&source["records"], &source["malformed"]), (&json!(1), &json!(1)));
    let shown = text(&wharf(&["db", "status", "--db", &db]).stdout);
    assert!(shown.contains("MALFORMED"), "{shown}");
}

/// Regression: a database that could not be read, damaged or of another version, could not be replaced by an import either.
#[test]
fn an_import_takes_the_place_of_a_database_that_cannot_be_read() {
    let (folder, image, db) = prepared();
    let file = folder.path().join("own.json");
    let whole = fs::read(&db).unwrap();
    let newer = [&whole[..8], &[99][..], &whole[9..]].concat();
    for broken in [&whole[..10], &whole[..100], &newer[..]] {
        fs::write(&db, broken).unwrap();
        assert_ne!(wharf(&["scan", &image, "--db", &db]).status.code(), Some(0));
        answer(&["db", "import", "--db", &db, "--output", "json", file.to_str().unwrap()]);
        assert_eq!(wharf(&["db", "status", "--db", &db]).status.code(), Some(0));
    }
}

/// Regression: a mistyped `--db` cost whatever file was there.
#[test]
fn an_import_overwrites_no_file_that_is_not_a_database() {
    let (folder, _, _) = prepared();
    let (records, script) = (folder.path().join("own.json"), folder.path().join("deploy.sh"));
    for content in ["#!/bin/sh\n", "wharf", ""] {
        fs::write(&script, content).unwrap();
        let refused = wharf(&["db", "import", "--db", script.to_str().unwrap(), records.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(3));
        let error = text(&refused.stderr);
        assert!(error.contains("deploy.sh") && error.contains("hint:"), "{error}");
        assert_eq!(fs::read_to_string(&script).unwrap(), content);
    }
}

/// The findings of an image, once it was compared with data as `matched` says and has so many.
fn compared(registry: &Server, image: &str, matched: &str, findings: usize) {
    let mut last = String::new();
    for _ in 0..WAIT_S {
        last = registry.wharf(&["image", "findings", image, "--output", "json"]).unwrap_or_default();
        let found: Value = serde_json::from_str(&last).unwrap_or_default();
        let listed = found["items"].as_array().map(Vec::len);
        if found["scan"]["matched"] == matched && listed == Some(findings) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("`{image}` has not {findings} findings, comparison {matched}, within {WAIT_S} s: {last}")
}

/// Regression: advisories that were withdrawn, or imported under a mistyped name, held images for ever.
#[tokio::test]
async fn a_source_with_nothing_to_keep_is_removed_by_force() {
    let (folder, _, db) = prepared();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (own, none) = (path("own.json"), path("none.json"));
    fs::write(&none, "[]").unwrap();
    let registry = Server::start().unwrap();
    Image::debian("hello", "2.10-3").unwrap().push(&registry, "dev/hello", "1").await.unwrap();
    registry.wharf(&["db", "import", "--covers", "Debian:12", &own]).unwrap();
    compared(&registry, "dev/hello:1", "complete", 1);

    let at_server: &[&str] = &[];
    for place in [at_server, &["--db", &db]] {
        let import = ["db", "import", "--source", "own", &none];
        let import = |more: &[&str]| registry.wharf(&[&import[..], place, more].concat());
        let refused = import(&[]).unwrap_err().to_string();
        assert!(refused.contains("exit status: 3") && refused.contains("`--force` removes"), "{refused}");
        let removed = import(&["--force"]).unwrap();
        assert!(removed.contains("removed: `own`"), "{removed}");
        // There is nothing of that name any more: it may be mistyped.
        let refused = import(&["--force"]).unwrap_err().to_string();
        assert!(refused.contains("exit status: 2"), "{refused}");
    }
    compared(&registry, "dev/hello:1", "none", 0);
    let events = ["events", "--kind", "vulnerability-data-imported", "--output", "json"];
    let told = registry.wharf(&events).unwrap();
    assert_eq!(told.lines().count(), 2, "{told}");
    let status = answer(&["db", "status", "--db", &db, "--output", "json"]);
    assert_eq!((&status["sources"], &status["releases"]), (&json!([]), &json!({})));
}

/// Regression: names that the server refuses were taken without one.
#[test]
fn a_source_has_a_plain_name() {
    let (folder, _, db) = prepared();
    let before = fs::read(&db).unwrap();
    let check = |file: &str, more: &[&str], says: &str| {
        let file = folder.path().join(file);
        fs::copy(folder.path().join("own.json"), &file).unwrap();
        let import = ["db", "import", "--db", &db, file.to_str().unwrap()];
        let refused = wharf(&[&import[..], more].concat());
        let error = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && error.contains(says), "{more:?}: {error}");
    };
    for name in ["", "my list", "a\nb", &"x".repeat(300)] {
        check("copy.json", &["--source", name], "the name of a source is 1 to 64 letters");
    }
    check("my list.json", &[], "hint: `--source NAME`");
    assert_eq!(fs::read(&db).unwrap(), before);
}

#[test]
fn the_prefixes_of_other_tools_are_understood() {
    let (_folder, image, _) = prepared();
    let direct = answer(&["scan", &image, "--output", "json"]);
    assert_eq!(answer(&["scan", &format!("oci:{image}"), "--output", "json"]), direct);
    let output = wharf(&["scan", "docker-daemon:app:1.4"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("docker save app:1.4"), "{}", text(&output.stderr));
}

#[test]
fn targets_that_are_none_are_refused_with_a_hint() {
    let output = wharf(&["scan", "no/such/thing"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("hint:"), "{}", text(&output.stderr));
    let (_folder, image, _) = prepared();
    for (target, more) in [(format!("{image}:zzz"), &[][..]), (image, &["--platform", "linux/mips"])] {
        let output = wharf(&[&["scan", &target][..], more].concat());
        assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.json");
    fs::write(&file, r#"{"id":"GO-1","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Go","name":"x"}}]}"#).unwrap();
    let db = folder.path().join("x.db");
    let output = wharf(&["db", "import", "--db", db.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot be matched") && !db.exists(), "{}", text(&output.stderr));
}

/// The same image in a registry: with a password, with the login of `wharf login`, and with neither.
#[tokio::test]
async fn an_image_in_a_registry_is_scanned_by_whoever_may_pull_it() {
    let registry = Server::start().unwrap();
    let image = Image::debian("hello", "2.10-3").unwrap();
    image.push(&registry, "dev/hello", "1").await.unwrap();
    let home = TempDir::new().unwrap();
    let target = format!("{}/dev/hello:1", registry.host());
    let scan = |with_password: bool| {
        let mut command = Command::new(server::binary());
        command.args(["scan", &target, "--output", "json"]).env_clear().env("HOME", home.path());
        if with_password {
            command.env("WHARF_USER", "admin").env("WHARF_PASSWORD", &registry.admin_password);
        }
        command.output().unwrap()
    };
    let refused = scan(false);
    assert_eq!(refused.status.code(), Some(5));
    assert!(text(&refused.stderr).contains("401"), "{}", text(&refused.stderr));

    let scanned: Value = serde_json::from_slice(&scan(true).stdout).unwrap();
    assert_eq!(scanned["digest"], image.digest().to_string());
    assert_eq!(scanned["report"]["packages"][0]["name"], "hello");

    let login = Command::new(server::binary())
        .args(["login", &registry.url, "--user", "admin"])
        .env_clear()
        .env("HOME", home.path())
        .env("WHARF_PASSWORD", &registry.admin_password)
        .output()
        .unwrap();
    assert!(login.status.success(), "{}", text(&login.stderr));
    let again: Value = serde_json::from_slice(&scan(false).stdout).unwrap();
    assert_eq!(again, scanned);
}

/// Regression: what a registry does not have ended with 1, as what fails.
#[tokio::test]
async fn what_a_registry_does_not_have_is_not_found() {
    let registry = Server::start().unwrap();
    Image::debian("hello", "2.10-3").unwrap().push(&registry, "dev/hello", "1").await.unwrap();
    for image in ["dev/hello:2", "dev/none:1"] {
        let error = registry.wharf(&["scan", &format!("{}/{image}", registry.host())]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("exit status: 4") && error.contains("404"), "{image}: {error}");
    }
}

/// Regression: the only image of a tag was scanned whatever platform was asked for.
#[tokio::test]
async fn an_image_for_another_platform_is_not_the_one_that_was_asked_for() {
    let registry = Server::start().unwrap();
    Image::debian("hello", "2.10-3").unwrap().push(&registry, "dev/hello", "1").await.unwrap();
    let target = format!("{}/dev/hello:1", registry.host());
    let scan = |platform: &str| registry.wharf(&["scan", &target, "--platform", platform]);
    scan("linux/amd64").unwrap();
    let error = scan("linux/mips").unwrap_err().to_string();
    assert!(error.contains("exit status: 4") && error.contains("there is `linux/amd64`"), "{error}");
}

/// Regression: a registry that cannot be reached ended with 1, as what fails.
#[test]
fn a_registry_that_is_not_there_is_worth_another_try() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = wharf(&["scan", &format!("{address}/dev/app:1")]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
}

/// A login that docker or podman left in its file, and one that only a helper knows.
#[tokio::test]
async fn a_login_of_docker_or_podman_is_used() {
    let registry = Server::start().unwrap();
    let image = Image::debian("hello", "2.10-3").unwrap();
    image.push(&registry, "dev/hello", "1").await.unwrap();
    let folder = TempDir::new().unwrap();
    let scan = |auths: Value, variable: &str, file: &str| {
        fs::write(folder.path().join("config.json"), auths.to_string()).unwrap();
        Command::new(server::binary())
            .args(["scan", &format!("{}/dev/hello:1", registry.host()), "--output", "json"])
            .env_clear()
            .env(variable, folder.path().join(file))
            .output()
            .unwrap()
    };
    let login = json!({ "username": "admin", "password": registry.admin_password });
    let auths = json!({ "auths": { (registry.host()): login } });
    for (variable, file) in [("DOCKER_CONFIG", ""), ("REGISTRY_AUTH_FILE", "config.json")] {
        let output = scan(auths.clone(), variable, file);
        assert!(output.status.success(), "{variable}: {}", text(&output.stderr));
    }
    let refused =
        scan(json!({ "auths": { (registry.host()): {} }, "credsStore": "desktop" }), "DOCKER_CONFIG", "");
    assert_eq!(refused.status.code(), Some(5));
    assert!(text(&refused.stderr).contains("docker-credential-desktop"), "{}", text(&refused.stderr));
}

/// A package database that no real image has: it fits no worker of the least memory that can be set.
fn greedy() -> Image {
    let stanza = |i: u32| {
        let name = format!("{i:05}{}", "+".repeat(70));
        format!("Package: {name}\nVersion: {}\nSource: {name}\n\n", "~".repeat(80))
    };
    let status: String = (0..50_000).map(stanza).collect();
    let release = "ID=debian\nVERSION_ID=\"12\"\n";
    Image::new(&[&[("etc/os-release", release), ("var/lib/dpkg/status", &status)]]).unwrap()
}

/// Waits until the only platform of an image was scanned so far.
fn scanned(registry: &Server, image: &str, knowledge: &str) {
    let mut last = Value::Null;
    for _ in 0..WAIT_S {
        let facts = registry.wharf(&["image", "facts", image, "--output", "json"]).unwrap();
        last = serde_json::from_str::<Value>(&facts).unwrap()["facts"]["platforms"][0]["scan"].take();
        if last == knowledge {
            return;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("the scan of `{image}` is {last} and not {knowledge} after {WAIT_S} s")
}

/// Regression: what was scanned where its layers were missing stayed unscanned wherever it came whole.
#[tokio::test]
async fn what_was_missing_in_one_repository_is_scanned_in_another() {
    let folder = TempDir::new().unwrap();
    let settings = server::settings(folder.path(), "[registry]\nsparse = [\"sparse/*\"]\n");
    let registry = Server::start_with(&["--config", &settings]).unwrap();
    let mut image = Image::debian("hello", "2.10-3").unwrap();
    let layers = std::mem::take(&mut image.layers);
    image.push(&registry, "sparse/hello", "1").await.unwrap();
    scanned(&registry, "sparse/hello:1", "failed");
    let why = registry.wharf(&["image", "facts", "sparse/hello:1"]).unwrap();
    assert!(why.contains("its layer `sha256:") && why.contains("is not here"), "{why}");
    image.layers = layers;
    image.push(&registry, "dev/hello", "1").await.unwrap();
    scanned(&registry, "dev/hello:1", "complete");
    scanned(&registry, "sparse/hello:1", "complete");

    let mut other = Image::debian("other", "1").unwrap();
    let layers = std::mem::take(&mut other.layers);
    other.push(&registry, "sparse/other", "1").await.unwrap();
    scanned(&registry, "sparse/other:1", "failed");
    other.layers = layers;
    other.push(&registry, "sparse/other", "1").await.unwrap();
    scanned(&registry, "sparse/other:1", "complete");
}

/// How long a scan may take on a loaded machine. Seconds.
const WAIT_S: u32 = 120;

/// The shipped policy plugin, built as `cargo plugins` does.
fn criteria() -> Vec<u8> {
    let arguments = ["build", "--quiet", "--locked", "-p", "criteria", "--profile", "plugin"];
    let built = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--target", "wasm32-unknown-unknown"])
        .current_dir(server::root())
        .status();
    assert!(built.is_ok_and(|status| status.success()), "hint: `rustup target add wasm32-unknown-unknown`");
    let target = server::binary().ancestors().nth(2).expect("the target folder");
    fs::read(target.join("wasm32-unknown-unknown/plugin/criteria.wasm")).unwrap()
}

/// What the newest decision about a tag says, once it says `verdict`.
fn decided(registry: &Server, image: &str, verdict: &str) -> String {
    let mut last = String::new();
    for _ in 0..WAIT_S {
        last = registry.wharf(&["policy", "explain", image]).unwrap_or_default();
        if last.contains(verdict) {
            return last;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    panic!("`{image}` is no {verdict} within {WAIT_S} s: {last}")
}

#[tokio::test]
async fn an_image_that_aborts_the_scanner_is_held_and_the_server_serves() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("wharf.toml");
    fs::write(&config, "[scan]\nmemory_bytes = 67108864\n").unwrap();
    let registry = Server::start_with(&["--config", config.to_str().unwrap()]).unwrap();
    fs::create_dir_all(registry.data().join("plugins")).unwrap();
    fs::write(registry.data().join("plugins/criteria.wasm"), criteria()).unwrap();
    for _ in 0..WAIT_S {
        if registry.wharf(&["plugin", "ls"]).unwrap().contains("criteria") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let no_telnet =
        r#"{"criteria": [{"field": "component.name", "operator": "noo", "values": ["telnetd"]}]}"#;
    let bind = ["policy", "bind", "gate", "--from", "dev/*", "--to", "qa/{name}", "--plugin", "criteria"];
    registry.wharf(&[&bind[..], &["--config", no_telnet]].concat()).unwrap();

    greedy().push(&registry, "dev/greedy", "1").await.unwrap();
    scanned(&registry, "dev/greedy:1", "failed");
    let facts = registry.wharf(&["image", "facts", "dev/greedy:1"]).unwrap();
    assert!(facts.contains("the scan worker aborted"), "{facts}");
    let held = decided(&registry, "dev/greedy:1", "hold");
    assert!(held.contains("scan"), "{held}");

    Image::debian("hello", "2.10-3").unwrap().push(&registry, "dev/hello", "1").await.unwrap();
    scanned(&registry, "dev/hello:1", "complete");
    decided(&registry, "dev/hello:1", "approve");
}
