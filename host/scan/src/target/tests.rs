use std::collections::BTreeMap;

use proptest::prelude::*;
use wharf_oci::Algorithm;

use super::*;
use crate::testing::*;
use crate::{Knowledge, ProblemCode};

/// Files of a layout under their names.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn blob(&mut self, data: &[u8]) -> (Digest, usize) {
        let digest = Algorithm::Sha256.digest(data);
        self.0.insert(blob_name(&digest), data.to_vec());
        (digest, data.len())
    }

    fn json(&mut self, kind: &str, value: &serde_json::Value) -> serde_json::Value {
        let (digest, size) = self.blob(value.to_string().as_bytes());
        serde_json::json!({ "mediaType": kind, "digest": digest, "size": size })
    }

    /// An image of one package named like its architecture.
    fn image(&mut self, arch: &str) -> serde_json::Value {
        let archive = tar(&[
            Put::File("etc/os-release", OS_RELEASE),
            Put::File("var/lib/dpkg/status", stanza(arch, "1").as_bytes()),
        ]);
        let config = serde_json::json!({
            "os": "linux", "architecture": arch, "rootfs": { "diff_ids": [Digest::sha256(&archive)] }
        });
        let config = self.json("application/vnd.oci.image.config.v1+json", &config);
        let (digest, size) = self.blob(&gzip(&archive));
        let layer = serde_json::json!({ "mediaType": format!("{TAR}+gzip"), "digest": digest, "size": size });
        let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer] });
        self.json("application/vnd.oci.image.manifest.v1+json", &manifest)
    }

    fn index(&mut self, manifests: &[serde_json::Value]) {
        self.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        self.0.insert("index.json".into(), index.to_string().into_bytes());
    }

    fn layout(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, data) in &self.0 {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        root
    }

    fn archive(&self) -> tempfile::NamedTempFile {
        let members: Vec<Put<'_>> = self.0.iter().map(|(name, data)| Put::File(name, data)).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), tar(&members)).unwrap();
        file
    }
}

fn scan_at(path: &Path, choice: &Choice) -> Result<Vec<String>, TargetError> {
    let report = Target::open(path)?.scan(choice, &Limits::default(), &mut |_| {})?;
    assert_eq!(report.knowledge, Knowledge::Complete, "{:?}", report.problems);
    Ok(report.packages.into_iter().map(|p| p.name).collect())
}

fn platform(arch: &str) -> Choice {
    Choice { platform: Some(format!("linux/{arch}").parse().unwrap()), tag: None }
}

#[test]
fn one_image_needs_no_choice_in_a_layout_or_an_archive() {
    let mut files = Files::default();
    let image = files.image("s390x");
    files.index(&[image]);
    assert_eq!(scan_at(files.layout().path(), &Choice::default()).unwrap(), ["s390x"]);
    assert_eq!(scan_at(files.archive().path(), &Choice::default()).unwrap(), ["s390x"]);
}

/// Regression: indexes of copies of an index were followed copy by copy, 1,000^4 times here.
#[test]
fn an_index_named_many_times_is_read_once() {
    let mut files = Files::default();
    let mut inner = files.image("s390x");
    for _ in 0..4 {
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": MediaTypes::INDEX,
            "manifests": vec![inner; 1000] });
        inner = files.json(MediaTypes::INDEX, &index);
    }
    files.index(&vec![inner; 1000]);
    assert_eq!(scan_at(files.layout().path(), &Choice::default()).unwrap(), ["s390x"]);
}

#[test]
fn a_nested_index_is_chosen_from_by_platform() {
    let mut files = Files::default();
    let mut inner = Vec::new();
    for arch in ["s390x", "riscv64"] {
        let mut image = files.image(arch);
        image["platform"] = serde_json::json!({ "os": "linux", "architecture": arch });
        inner.push(image);
    }
    let mut attestation = files.image("none");
    attestation["platform"] = serde_json::json!({ "os": "unknown", "architecture": "unknown" });
    inner.push(attestation);
    let nested =
        serde_json::json!({ "schemaVersion": 2, "mediaType": MediaTypes::INDEX, "manifests": inner });
    let nested = files.json(MediaTypes::INDEX, &nested);
    files.index(&[nested]);
    let root = files.layout();
    assert_eq!(scan_at(root.path(), &platform("riscv64")).unwrap(), ["riscv64"]);
    let error = scan_at(root.path(), &Choice::default()).unwrap_err().to_string();
    assert!(
        error.contains("linux/s390x") && error.contains("--platform") && !error.contains("unknown"),
        "{error}"
    );
    assert!(matches!(scan_at(root.path(), &platform("mips")), Err(TargetError::NoMatch { .. })));
}

struct MediaTypes;

impl MediaTypes {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
}

#[test]
fn tags_tell_images_of_a_layout_apart() {
    let mut files = Files::default();
    let images = ["one", "two"].map(|tag| {
        let mut image = files.image(tag);
        image["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
        image
    });
    files.index(&images);
    let choice = Choice { platform: None, tag: Some("two".into()) };
    assert_eq!(scan_at(files.layout().path(), &choice).unwrap(), ["two"]);
    assert!(matches!(scan_at(files.layout().path(), &Choice::default()), Err(TargetError::Ambiguous { .. })));
    // Regression: of a tag that is not there it was said that there are none.
    let unknown = Choice { platform: None, tag: Some("three".into()) };
    let error = scan_at(files.layout().path(), &unknown).unwrap_err().to_string();
    assert_eq!(error, "no image for tag `three`; there are: `one`, `two`");
}

/// As `docker save` writes it: the tag alone, and the name beside it.
#[test]
fn names_tell_images_of_a_layout_apart() {
    let mut files = Files::default();
    let images = ["one", "two"].map(|name| {
        let mut image = files.image(name);
        image["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "1.0",
            "io.containerd.image.name": format!("docker.io/library/{name}:1.0") });
        image
    });
    files.index(&images);
    let scan = |tag: &str| scan_at(files.archive().path(), &Choice { platform: None, tag: Some(tag.into()) });
    assert_eq!(scan("two:1.0").unwrap(), ["two"]);
    assert!(matches!(scan("1.0"), Err(TargetError::Ambiguous { .. })));
    assert!(matches!(scan("two"), Err(TargetError::NoMatch { .. })));
}

/// Regression: an image whose manifest is missing was told as one of another platform.
#[test]
fn a_missing_manifest_is_named_where_no_other_is_meant() {
    let mut files = Files::default();
    let images = ["s390x", "riscv64"].map(|arch| {
        let mut image = files.image(arch);
        image["platform"] = serde_json::json!({ "os": "linux", "architecture": arch });
        image
    });
    let missing = blob_name(&images[1]["digest"].as_str().unwrap().parse().unwrap());
    files.0.remove(&missing);
    files.index(&images);
    let root = files.layout();
    // A layout may be sparse.
    assert_eq!(scan_at(root.path(), &Choice::default()).unwrap(), ["s390x"]);
    let is_missing = |result| matches!(result, Err(TargetError::Missing { name }) if name == missing);
    assert!(is_missing(scan_at(root.path(), &platform("riscv64"))));
    assert!(matches!(scan_at(root.path(), &platform("mips")), Err(TargetError::NoMatch { .. })));
    files.index(&images[1..]);
    assert!(is_missing(scan_at(files.layout().path(), &Choice::default())));
}

/// Regression: a pipe in the place of a blob or of an archive was waited for without an end.
#[test]
fn a_pipe_is_not_waited_for() {
    let pipe = |path: &Path| {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let _ = fs::remove_file(path);
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    };
    let scan = |path: &Path| {
        Target::open(path)?.scan(&Choice::default(), &Limits::default(), &mut |_| {}).map(|r| r.problems)
    };
    let is_refused = |result, path: &str| matches!(result, Err(TargetError::Io { path: refused, .. }) if refused == Path::new(path));
    let mut files = Files::default();
    let image = files.image("amd64");
    files.index(std::slice::from_ref(&image));
    let manifest = blob_name(&image["digest"].as_str().unwrap().parse().unwrap());
    let root = files.layout();
    pipe(&root.path().join(&manifest));
    assert!(is_refused(scan(root.path()), &manifest));
    let (layer, _) = files.0.iter().find(|(_, data)| data.starts_with(&[0x1f, 0x8b])).unwrap();
    let root = files.layout();
    pipe(&root.path().join(layer));
    let problems = scan(root.path()).unwrap();
    assert!(problems.iter().any(|problem| problem.code == ProblemCode::Unreadable), "{problems:?}");
    let archive = root.path().join("image.tar");
    pipe(&archive);
    assert!(is_refused(scan(&archive), archive.to_str().unwrap()));
}

#[test]
fn an_old_docker_archive_with_linked_layers() {
    let layer = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let config = config(&[&layer, &layer]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["x/layer.tar","y/layer.tar"]}]"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    let members = [
        Put::File("x/layer.tar", &layer),
        Put::Link("y/layer.tar", "../x/layer.tar"),
        Put::File("c.json", &config),
        Put::File("manifest.json", manifest),
    ];
    fs::write(file.path(), tar(&members)).unwrap();
    assert_eq!(scan_at(file.path(), &Choice::default()).unwrap(), ["a"]);
    let scan = |tag: &str| scan_at(file.path(), &Choice { platform: None, tag: Some(tag.into()) });
    for tag in ["1", "app:1", "docker.io/library/app:1"] {
        assert_eq!(scan(tag).unwrap(), ["a"], "{tag}");
    }
    assert!(matches!(scan("2"), Err(TargetError::NoMatch { .. })));
}

/// As crane and kaniko write it: compressed layers, named by the digest of their stored bytes.
#[test]
fn a_docker_archive_with_compressed_layers() {
    let layer = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let (config, stored) = (config(&[&layer]), gzip(&layer));
    let name = format!("{}.tar.gz", Digest::sha256(&stored).hex());
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["app:1"],"Layers":["{name}"]}}]"#);
    let file = tempfile::NamedTempFile::new().unwrap();
    let members = [
        Put::File(&name, &stored),
        Put::File("c.json", &config),
        Put::File("manifest.json", manifest.as_bytes()),
    ];
    fs::write(file.path(), tar(&members)).unwrap();
    assert_eq!(scan_at(file.path(), &Choice::default()).unwrap(), ["a"]);
}

/// Regression: an extracted archive could name any file of this machine as its configuration or a layer.
#[test]
fn a_name_in_a_docker_archive_stays_inside() {
    let layer = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let around = tempfile::tempdir().unwrap();
    let root = around.path().join("image");
    for folder in [around.path(), &root] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("c.json"), config(&[&layer])).unwrap();
        fs::write(folder.join("layer.tar"), &layer).unwrap();
    }
    fs::write(root.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let scan = |config: &str, layer: &str| {
        let manifest = serde_json::json!([{ "Config": config, "Layers": [layer] }]);
        fs::write(root.join("manifest.json"), manifest.to_string()).unwrap();
        scan_at(&root, &Choice::default())
    };
    for (config, layer, outside) in [
        ("../c.json", "layer.tar", "../c.json"),
        ("c.json", "../layer.tar", "../layer.tar"),
        ("c.json", "x/../../layer.tar", "x/../../layer.tar"),
    ] {
        let result = scan(config, layer);
        assert!(matches!(&result, Err(TargetError::Outside { name }) if name == outside), "{result:?}");
    }
    assert_eq!(scan("./c.json", "/layer.tar").unwrap(), ["a"]);
}

#[test]
fn damage_is_a_typed_error() {
    let mut files = Files::default();
    let image = files.image("amd64");
    files.index(std::slice::from_ref(&image));
    let name = blob_name(&image["digest"].as_str().unwrap().parse().unwrap());
    files.0.insert(name, b"{}".to_vec());
    assert!(matches!(scan_at(files.layout().path(), &Choice::default()), Err(TargetError::Digest { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), gzip(b"x")).unwrap();
    assert!(matches!(Target::open(file.path()), Err(TargetError::Unknown { .. })));
    fs::write(file.path(), vec![b'x'; 2000]).unwrap();
    assert!(matches!(Target::open(file.path()), Err(TargetError::Unknown { .. })));
    fs::write(file.path(), &tar(&[Put::File("index.json", &[b' '; 2000])])[..1000]).unwrap();
    assert!(matches!(Target::open(file.path()), Err(TargetError::Archive(_))));
    assert!(matches!(Target::open(Path::new("/nonexistent")), Err(TargetError::Io { .. })));
}

proptest! {
    #[test]
    fn archives_of_any_bytes_are_refused_or_read(at in 0usize..4096, change in proptest::collection::vec(any::<u8>(), 1..64)) {
        let mut archive = tar(&[
            Put::Link("index.json", "manifest.json"),
            Put::File("manifest.json", br#"[{"Config":"c.json","Layers":[]}]"#),
            Put::File("c.json", br#"{"os":"linux","architecture":"amd64","rootfs":{}}"#),
        ]);
        let at = at % archive.len();
        let end = (at + change.len()).min(archive.len());
        archive[at..end].copy_from_slice(&change[..end - at]);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &archive).unwrap();
        let _ = Target::open(file.path()).and_then(|target| target.image(&Choice::default()));
    }
}
