use super::*;

fn image() -> ImageFacts {
    ImageFacts {
        repository: "dev/app".into(),
        tag: Some("1.4".into()),
        digest: "sha256:aa".into(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        pushed_by: "ci".into(),
        platforms: vec![PlatformFacts {
            digest: "sha256:aa".into(),
            labels: BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
            components: vec![Component {
                name: "openssl".into(),
                ecosystem: "deb".into(),
                ..Component::default()
            }],
            findings: vec![Finding {
                id: "CVE-1".into(),
                source: "osv".into(),
                cvss_tenths: Some(98),
                ..Finding::default()
            }],
            ..PlatformFacts::default()
        }],
        ..ImageFacts::default()
    }
}

/// Stored documents depend on these very bytes. If this fails, old decisions no longer replay: make the new field optional
/// and leave it out when it is not set.
#[test]
fn canonical_bytes_are_frozen() {
    let sealed = image().seal().unwrap();
    let expected = concat!(
        r#"{"repository":"dev/app","tag":"1.4","tag_revision":0,"digest":"sha256:aa","#,
        r#""media_type":"application/vnd.oci.image.manifest.v1+json","size_bytes":0,"pushed_at_ms":0,"#,
        r#""pushed_by":"ci","evaluated_at_ms":0,"signature_check":"none","platforms":[{"digest":"sha256:aa","#,
        r#""media_type":"","size_bytes":0,"labels":{"a":"1","b":"2"},"scan":"none","components":[{"name":"openssl","#,
        r#""ecosystem":"deb","purl":"","confidence":"exact","evidence":""}],"findings":[{"id":"CVE-1","source":"osv","#,
        r#""severity":"unknown","cvss_tenths":98,"component":0,"fix":"unknown"}]}]}"#
    );
    assert_eq!(std::str::from_utf8(sealed.bytes()).unwrap(), expected);
    assert_eq!(sealed.digest(), sha256(expected.as_bytes()));
}

#[test]
fn a_stored_document_reads_back_or_is_refused() {
    let sealed = image().seal().unwrap();
    let read = SealedFacts::from_bytes(sealed.bytes()).unwrap();
    assert_eq!((read.facts(), read.digest()), (sealed.facts(), sealed.digest()));
    let mut spaced = sealed.bytes().to_vec();
    spaced.push(b' ');
    assert!(matches!(SealedFacts::from_bytes(&spaced), Err(FactsError::NotCanonical)));
    assert!(matches!(SealedFacts::from_bytes(b"{}"), Err(FactsError::Json(_))));
}

#[test]
fn documents_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut ImageFacts)| {
        let mut image = image();
        change(&mut image);
        image.seal().unwrap_err()
    };
    let error = refused(|image| image.platforms[0].findings[0].component = 1);
    assert_eq!(error.to_string(), "finding `CVE-1` of `sha256:aa` names component 1, there are 1");
    assert!(matches!(refused(|image| image.platforms.clear()), FactsError::Platforms { found: 0, .. }));
    let score = refused(|image| image.platforms[0].findings[0].cvss_tenths = Some(101));
    assert!(matches!(score, FactsError::Score { tenths: 101, .. }));
    let mut index = image();
    index.index = true;
    index.platforms.clear();
    index.seal().expect("an index may list nothing");
}

#[test]
fn least_knowledge_wins() {
    use Knowledge::{Complete, Failed, None, Partial, Pending, Unsupported};
    let order = [None, Pending, Failed, Unsupported, Partial, Complete];
    for (i, one) in order.into_iter().enumerate() {
        for (j, other) in order.into_iter().enumerate() {
            assert_eq!(one.least(other), order[i.min(j)]);
        }
    }
}

#[test]
fn parsing_licences_takes_time_that_a_call_has() {
    let mut facts = image();
    let licences = (0..1000).map(|i| format!("LicenseRef-{i} OR MIT")).collect();
    facts.platforms[0].components[0].licences = licences;
    let sealed = facts.seal().unwrap();
    // A call without any time left.
    let over = crate::sandbox::Deadline::new(0);
    assert_eq!(sealed.licences(Some(&over)).len(), 0);
    assert!(over.is_up());
    assert_eq!(sealed.licences(None).len(), 1000);
    assert_eq!(sealed.licences(Some(&over)).len(), 1000, "they are parsed once");
}

/// The list that a policy asks for was put together whatever time was left.
#[test]
fn listing_licences_takes_time_that_a_call_has() {
    let mut facts = image();
    facts.platforms[0].components[0].licences = (0..1000).map(|i| format!("LicenseRef-{i}")).collect();
    let sealed = facts.seal().unwrap();
    let over = crate::sandbox::Deadline::new(0);
    let check = |clock, expected: bool| {
        let view = crate::trace::View {
            facts: &sealed,
            node: crate::trace::Node::Platform(0),
            order: |_, _, _| None,
            clock,
        };
        assert_eq!(view.licences().len() == 1000, expected);
    };
    check(None, true);
    check(Some(&over), false);
    assert!(over.is_up());
}
