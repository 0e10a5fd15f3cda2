use proptest::prelude::*;

use crate::*;

fn check<T: std::str::FromStr<Err = ParseError> + ToString>(text: &str, valid: bool) {
    match text.parse::<T>() {
        Ok(value) => assert!(valid && value.to_string() == text, "{text} was taken"),
        Err(error) => assert!(!valid, "{error}"),
    }
}

#[test]
fn repository_names() {
    for name in ["a", "a/b", "dev/app", "a.b/c_d/e__f/g-h/i---j", "0/1"] {
        check::<RepoName>(name, true);
    }
    for name in
        ["", "/", "a/", "/a", "A", "a..b", "a___b", "a._b", "-a", "a-", "a b", "a:b", "ä", &"a".repeat(256)]
    {
        check::<RepoName>(name, false);
    }
    let name: RepoName = "dev/team/app".parse().unwrap();
    assert_eq!((name.namespace(), name.name()), ("dev", "team/app"));
}

#[test]
fn tags() {
    for tag in ["latest", "1.4", "_x", "A-b.c", &"a".repeat(128)] {
        check::<Tag>(tag, true);
    }
    for tag in ["", ".a", "-a", "a/b", "a:b", "a b", &"a".repeat(129)] {
        check::<Tag>(tag, false);
    }
}

#[test]
fn digests() {
    check::<Digest>(&format!("sha256:{}", "a".repeat(64)), true);
    check::<Digest>(&format!("sha512:{}", "0".repeat(128)), true);
    for text in
        ["", "sha256:", "sha256:zz", "md5:0123", &format!("sha256:{}", "A".repeat(64)), &"a".repeat(64)]
    {
        check::<Digest>(text, false);
    }
    assert_eq!(
        Digest::sha256(b"").as_str(),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert!(Algorithm::Sha512.digest(b"wharf").matches(b"wharf"));
}

#[test]
fn references() {
    let digest = Digest::sha256(b"x");
    let pinned: Reference = format!("dev/app:1@{digest}").parse().unwrap();
    assert_eq!(pinned.target, Target::Digest(digest));
    let tagged: Reference = "dev/app:1.4".parse().unwrap();
    assert_eq!(tagged.target, Target::Tag("1.4".parse().unwrap()));
    assert!("dev/app".parse::<Reference>().is_err());
}

#[test]
fn manifests_that_contradict_themselves_are_refused() {
    let oci: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    let index: MediaType = MediaType::OCI_INDEX.parse().unwrap();
    let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, Digest::sha256(b"x"));
    let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
    assert!(Manifest::parse(image.as_bytes(), Some(&oci)).is_ok());
    assert!(matches!(Manifest::parse(image.as_bytes(), None), Err(ManifestError::NoMediaType)));
    // Regression: the same bytes were an artifact in one place and an image in another, as their pusher said.
    let docker = MediaType::DOCKER_MANIFEST.parse().unwrap();
    let unnamed = Manifest::parse(image.as_bytes(), Some(&docker));
    assert!(matches!(unnamed, Err(ManifestError::Unnamed(_))), "{unnamed:?}");
    assert!(matches!(Manifest::parse(image.as_bytes(), Some(&index)), Err(ManifestError::Unexpected { .. })));
    let both = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[]}}"#);
    assert!(matches!(Manifest::parse(both.as_bytes(), Some(&oci)), Err(ManifestError::Unexpected { .. })));
    let one = r#"{"schemaVersion":1}"#;
    assert!(matches!(Manifest::parse(one.as_bytes(), Some(&oci)), Err(ManifestError::SchemaVersion(1))));
    let nulls = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":null,"artifactType":""}"#;
    assert!(Manifest::parse(nulls.as_bytes(), None).is_ok());
}

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn descriptor(media_type: &str, content: &str) -> String {
    let (digest, size) = (Digest::sha256(content.as_bytes()), content.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn manifest(media_type: &str, config: &str, layers: &str) -> Manifest {
    let text =
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layers}]}}"#);
    Manifest::parse(text.as_bytes(), None).unwrap()
}

/// Regression: a configuration of another type, and later layers of another, made an artifact of an image that a runtime runs all
/// the same.
#[test]
fn what_a_runtime_may_unpack_is_a_container_image() {
    const OTHER: &str = "application/vnd.example.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    const STATEMENT: &str = "application/vnd.in-toto+json";
    let check = |media_type: &str, (config, content): (&str, &str), layers: &[&str], expected: bool| {
        let layers: Vec<String> = layers.iter().map(|of| descriptor(of, "x")).collect();
        let found = manifest(media_type, &descriptor(config, content), &layers.join(","));
        assert_eq!((found.is_container_image(), found.may_run()), (expected, expected), "{found:?}");
    };
    let (oci, docker) = (MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST);
    let image = (MediaType::OCI_CONFIG, r#"{"rootfs":{}}"#);
    for layers in [&[LAYER][..], &[LAYER, STATEMENT], &[], &["application/vnd.example"]] {
        check(oci, image, layers, true);
    }
    check(oci, image, &[STATEMENT, STATEMENT], false);
    let other = (OTHER, image.1);
    for layer in [
        LAYER,
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.erofs.layer.v1",
    ] {
        check(oci, other, &["application/vnd.example", layer], true);
        check(docker, other, &[layer], true);
        // What ORAS attaches. The type alone makes no config empty, and a Docker manifest runs with such a one.
        check(oci, (EMPTY, "{}"), &[layer], false);
        check(oci, (EMPTY, image.1), &[layer], true);
        check(docker, (EMPTY, "{}"), &[layer], true);
    }
    check(oci, other, &[], false);
    // Podman unpacks a layer of a Docker manifest that is called a config or a manifest.
    for layer in [MediaType::DOCKER_CONFIG, docker] {
        check(docker, other, &[layer], true);
    }
    // Of an OCI manifest dockerd takes these for a config and for layers, and nothing where one is of another type.
    for taken in [
        "application/octet-stream",
        "application/json",
        "text/html",
        "Application/Vnd.OCI.Image.rootfs",
        "application/vnd.docker.container.image.rootfs.diff+x-gtar",
        MediaType::DOCKER_CONFIG,
    ] {
        check(oci, ("application/octet-stream", image.1), &[taken, taken], true);
        check(oci, (taken, image.1), &["application/octet-stream"], true);
        check(oci, (EMPTY, "{}"), &[taken], false);
        check(oci, other, &[taken], false);
        check(oci, ("application/json", image.1), &[taken, "application/vnd.example"], false);
    }
    check(oci, ("application/json", image.1), &["application/vnd.oci.imagery.v1"], false);
}

/// What tools push that no runtime unpacks follows the image that it is said of.
#[test]
fn artifacts_are_no_container_images() {
    let artifacts = [
        // Helm, Notation, cosign and `gh attestation`, ORAS, `docker compose publish`, Flux, WebAssembly, Docker's models.
        (
            "application/vnd.cncf.helm.config.v1+json",
            "{ }",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ),
        ("application/vnd.cncf.notary.signature", "{}", "application/jose+json"),
        (EMPTY, "{}", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("application/vnd.unknown.config.v1+json", "{}", "application/vnd.oci.image.layer.v1.tar"),
        (
            "application/vnd.docker.compose.config.empty.v1+json",
            "{}",
            "application/vnd.docker.compose.file+yaml",
        ),
        ("application/vnd.cncf.flux.config.v1+json", "{ }", "application/vnd.cncf.flux.content.v1.tar+gzip"),
        ("application/vnd.wasm.config.v0+json", "{ }", "application/wasm"),
        ("application/vnd.docker.ai.model.config.v0.1+json", "{ }", "application/vnd.docker.ai.gguf.v3"),
    ];
    for (config, content, layer) in artifacts {
        let found = manifest(MediaType::OCI_MANIFEST, &descriptor(config, content), &descriptor(layer, "x"));
        assert!(!found.may_run(), "{found:?}");
    }
}

/// It has neither a config nor layers, of which all that is said of each of them is true.
#[test]
fn an_index_may_hold_images_and_is_none() {
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX);
    let index = Manifest::parse(text.as_bytes(), None).unwrap();
    assert_eq!((index.is_container_image(), index.may_run()), (false, true));
}

/// Regression: what names its layers as `layers` and as `Layers` is one image here and another to a runtime, which is written in Go.
#[test]
fn a_manifest_is_the_same_to_all_who_read_it() {
    let part =
        |more: &str| format!(r#"{{"mediaType":"a/b","digest":"{}","size":1{more}}}"#, Digest::sha256(b"x"));
    let check = |part: &str, more: &str, expected: Option<&str>| {
        let text = format!(r#"{{"schemaVersion":2,"config":{part},"layers":[{part}]{more}}}"#);
        let oci = MediaType::OCI_MANIFEST.parse().unwrap();
        match (Manifest::parse(text.as_bytes(), Some(&oci)), expected) {
            (Ok(_), None) => {}
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    };
    check(&part(""), "", None);
    check(&part(""), r#","Layers":[]"#, Some("`Layers` is `layers`"));
    check(&part(""), r#","layerſ":[]"#, Some("`layerſ` is `layers`"));
    check(&part(r#","MediaType":"c/d""#), "", Some("`MediaType` is `mediaType`"));
    check(&part(r#","platform":{"os":"unknown","OS":"linux"}"#), "", Some("`OS` is `os`"));
    // What is named as its author likes.
    check(
        &part(r#","annotations":{"OS":"x","os":"y"}"#),
        r#","subject":null,"org.example":{"Size":[1]}"#,
        None,
    );
}

/// The error names what is wanted, not a type of this code.
#[test]
fn what_is_no_manifest_is_told_so() {
    let check = |bytes: &str, expected: &str| {
        let error = Manifest::parse(bytes.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    for bytes in ["null", "1", "\"a\""] {
        check(bytes, "expected a manifest");
    }
    check(r#"{"schemaVersion":2,"config":7}"#, "expected a descriptor");
    check(r#"{"schemaVersion":2,"artifactType":7}"#, "`artifactType` is no media type");
}

#[test]
fn a_huge_manifest_is_refused_before_it_is_parsed() {
    let bytes = vec![b' '; MANIFEST_BYTES_MAX + 1];
    assert!(matches!(Manifest::parse(&bytes, None), Err(ManifestError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn parsing_never_panics_and_round_trips(text in "\\PC{0,200}") {
        if let Ok(value) = text.parse::<RepoName>() { prop_assert_eq!(value.to_string(), text.clone()); }
        if let Ok(value) = text.parse::<Tag>() { prop_assert_eq!(value.to_string(), text.clone()); }
        if let Ok(value) = text.parse::<Digest>() { prop_assert_eq!(value.to_string(), text.clone()); }
        if let Ok(value) = text.parse::<MediaType>() { prop_assert_eq!(value.to_string(), text.clone()); }
        if let Ok(value) = text.parse::<Platform>() { prop_assert_eq!(value.to_string(), text.clone()); }
        if let Ok(value) = text.parse::<Reference>() {
            prop_assert_eq!(value.to_string().parse::<Reference>().unwrap(), value);
        }
    }

    #[test]
    fn valid_names_are_taken(name in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,3}",
                             tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}") {
        prop_assert!(name.parse::<RepoName>().is_ok());
        prop_assert!(tag.parse::<Tag>().is_ok());
    }

    #[test]
    fn any_bytes_are_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Manifest::parse(&bytes, None);
    }

    #[test]
    fn a_hash_does_not_depend_on_how_the_stream_was_cut(bytes in proptest::collection::vec(any::<u8>(), 0..2000),
                                                        at in 0usize..2000) {
        let at = at.min(bytes.len());
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(&bytes[..at]);
        hasher.update(&bytes[at..]);
        prop_assert_eq!(hasher.finish(), Algorithm::Sha512.digest(&bytes));
    }
}
