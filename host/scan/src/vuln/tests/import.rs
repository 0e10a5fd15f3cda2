//! What files give, and what of them is refused.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::Knowledge;

#[test]
fn the_import_counts_what_it_does_not_keep() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let withdrawn = record(
        "CVE-1",
        serde_json::json!({ "withdrawn": "2026-01-01T00:00:00Z", "affected": [fixed("Debian:12", "a", "2")] }),
    );
    let go = record("GO-1", serde_json::json!({ "affected": [fixed("Go", "x", "1")] }));
    let kept = record(
        "CVE-2",
        serde_json::json!({ "affected": [fixed("Debian:12", "a", "2"), fixed("Debian:11", "a", "2")] }),
    );
    for (name, text) in [
        ("1.json", withdrawn.to_string()),
        ("2.json", go.to_string()),
        ("3.json", kept.to_string()),
        ("4.json", "{".to_owned()),
        ("5.json", record(&"x".repeat(300), serde_json::json!({})).to_string()),
        ("README", "no record".to_owned()),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    let mut import = Import::new();
    import.add("osv:Debian", Cursor::new(bytes)).unwrap();
    let stats = import.stats().clone();
    assert_eq!((stats.records, stats.withdrawn, stats.kept, stats.rows, stats.malformed), (4, 1, 1, 2, 2));
    assert_eq!(stats.others, [("Go".to_owned(), 1)].into());
    assert_eq!(stats.described.len(), 2);
    let db = Db::from_bytes(import.finish().unwrap()).unwrap();
    assert_eq!(
        db.coverage(),
        [Coverage { source: "osv:Debian".into(), as_of_ms: 1_767_323_045_000, records: 1 }]
    );
    assert_eq!(
        db.releases().map(|(release, data)| (release.to_string(), data.records)).collect::<Vec<_>>(),
        [("Debian:11".into(), 1), ("Debian:12".into(), 1)]
    );
}

#[test]
fn one_record_does_not_make_a_release_known() {
    let debian_12: Release = "Debian:12".parse().unwrap();
    let own = record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }));
    let of = |file: &[u8], covers: &[Release]| {
        let mut import = Import::new();
        import.add("own", Cursor::new(file)).unwrap();
        covers.iter().for_each(|release| import.covers("own", release).unwrap());
        let db = Db::from_bytes(import.finish().unwrap()).unwrap();
        let findings = match_report(&debian(&[("a", "1"), ("b", "1")]), &db).unwrap();
        // What the record says is true in any case.
        assert_eq!(ids(&findings), ["CVE-2026-1"]);
        (findings.knowledge, findings.coverage.len(), findings.why.is_none())
    };
    let unknown = (Knowledge::None, 0, false);
    let json = own.to_string();
    assert_eq!(of(json.as_bytes(), &[]), unknown);
    // An export of another release that mentions it.
    let mention = |n| zipped(export("Debian:11", 200).chain(export("Debian:12", n)).chain([own.clone()]));
    assert_eq!(of(&mention(98), &[]), unknown);
    let known = (Knowledge::Complete, 1, true);
    assert_eq!(of(&mention(99), &[]), known);
    assert_eq!(of(json.as_bytes(), std::slice::from_ref(&debian_12)), known);
    let mut import = Import::new();
    import.add("own", Cursor::new(json)).unwrap();
    let other = "Debian:11".parse().unwrap();
    assert!(matches!(import.covers("own", &other), Err(ImportError::NotCovered { .. })));
    assert!(matches!(import.covers("other", &debian_12), Err(ImportError::NotCovered { .. })));
}

#[test]
fn records_that_leave_versions_open_are_counted_for_each_release() {
    let open = serde_json::json!({ "package": { "ecosystem": "Debian:12", "name": "a" } });
    let records = [
        record("CVE-1", serde_json::json!({ "affected": [open, fixed("Debian:11", "a", "2")] })),
        record("CVE-2", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] })),
    ];
    let mut import = Import::new();
    import.add("own", Cursor::new(serde_json::to_string(&records).unwrap())).unwrap();
    assert_eq!((import.stats().kept, import.stats().undecided), (2, 1));
    let db = Db::from_bytes(import.finish().unwrap()).unwrap();
    let releases: Vec<_> =
        db.releases().map(|(release, data)| (release.to_string(), data.records, data.undecided)).collect();
    assert_eq!(releases, [("Debian:11".into(), 1, 0), ("Debian:12".into(), 2, 1)]);
}

/// Regression: 120 copies of one record passed for a whole export, and images of the release were shown clean.
#[test]
fn copies_of_a_record_are_no_export() {
    let check = |records: Vec<serde_json::Value>, expected: u64, is_covered: bool| {
        let mut import = Import::new();
        import.add("Debian", Cursor::new(zipped(records))).unwrap();
        let db = Db::from_bytes(import.finish().unwrap()).unwrap();
        let data = db.release(&"Debian:12".parse().unwrap());
        assert_eq!((data.records, data.covered), (expected, is_covered));
        // What a copy says is true all the same.
        assert_eq!(match_report(&debian(&[("p0", "1")]), &db).unwrap().findings.len(), 1);
    };
    let one = || export("Debian:12", 1);
    check((0..120).flat_map(|_| one()).collect(), 1, false);
    check(export("Debian:12", 99).chain(one()).collect(), 99, false);
    check(export("Debian:12", 100).chain(one()).collect(), 100, true);
}

#[test]
fn coverage_is_as_old_as_what_there_is_of_the_release() {
    let old = |mut record: serde_json::Value| {
        record["modified"] = "2023-03-29T00:00:00Z".into();
        record
    };
    let mut import = Import::new();
    let both = export("Debian:12", 100).map(old).chain(export("Debian:13", 100));
    import.add("Debian", Cursor::new(zipped(both))).unwrap();
    // A list of one's own does not make the export look newer.
    let own = record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }));
    import.add("own", Cursor::new(own.to_string())).unwrap();
    let db = Db::from_bytes(import.finish().unwrap()).unwrap();
    let findings = match_report(&debian(&[("a", "1")]), &db).unwrap();
    let expected = Coverage { source: "Debian".into(), as_of_ms: 1_680_048_000_000, records: 100 };
    assert_eq!((findings.coverage, findings.findings.len()), (vec![expected], 1));
}

#[test]
fn a_zip_file_cut_anywhere_is_refused() {
    let whole = zipped(export("Debian:12", 4));
    assert!(Import::new().add("Debian", Cursor::new(&whole)).is_ok());
    for end in 0..whole.len() {
        let added = Import::new().add("Debian", Cursor::new(&whole[..end]));
        assert!(added.is_err(), "cut at {end} of {}", whole.len());
    }
}

#[test]
fn a_zip_file_with_a_damaged_entry_is_refused() {
    let whole = zipped(export("Debian:12", 4));
    let mut import = Import::new();
    import.add("Debian", Cursor::new(&whole)).unwrap();
    let expected = import.finish().unwrap();
    // Up to the list of entries, which has no checksum.
    let list = whole.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    for at in 0..list {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let mut import = Import::new();
        // What is not looked at, such as a time, may be anything; what is kept is what was sent.
        if import.add("Debian", Cursor::new(&damaged)).is_ok() {
            assert_eq!(import.finish().unwrap(), expected, "byte {at}");
        }
    }
}

#[test]
fn a_json_file_is_read_to_its_end() {
    let records: Vec<_> = export("Debian:12", 3).collect();
    let array = serde_json::to_string(&records).unwrap();
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    let refused = |text: &str| {
        let added = Import::new().add("own", Cursor::new(text));
        assert!(
            matches!(added, Err(ImportError::Json { .. } | ImportError::Nothing { .. })),
            "{text}: {added:?}"
        );
    };
    (0..array.len()).for_each(|end| refused(&array[..end]));
    refused(&(array.clone() + "]"));
    refused(&(array + " {"));
    refused(&lines.join("\n")[..lines[0].len() + 10]);
}

#[test]
fn a_source_does_not_shrink_to_less_than_half_unasked() {
    let database = |n: usize, old: Option<&Db>, accepts_fewer: bool| {
        let mut import = Import::new().accept_fewer(accepts_fewer);
        if let Some(old) = old {
            import.carry(old, &["Debian"]).unwrap();
        }
        // All the while there is enough of another release.
        let records = export("Debian:11", 300).chain(export("Debian:12", n));
        import.add("Debian", Cursor::new(zipped(records))).unwrap();
        import.finish().map(|bytes| Db::from_bytes(bytes).unwrap())
    };
    let old = database(201, None, false).unwrap();
    for (n, is_refused) in [(201, false), (101, false), (100, true), (1, true), (0, true)] {
        let result = database(n, Some(&old), false);
        assert_eq!(matches!(result, Err(ImportError::Fewer { .. })), is_refused, "{n}");
        assert!(database(n, Some(&old), true).is_ok(), "{n}");
    }
    let kev = |n: usize| {
        let all: Vec<_> = (0..n).map(|i| serde_json::json!({ "cveID": format!("CVE-{i}") })).collect();
        serde_json::json!({ "catalogVersion": "1", "dateReleased": "2026-01-01T00:00:00Z", "vulnerabilities": all })
            .to_string()
    };
    let mut import = Import::new();
    import.add("kev", Cursor::new(kev(10))).unwrap();
    assert!(matches!(import.add("kev", Cursor::new(kev(4))), Err(ImportError::Fewer { .. })));
}

#[test]
fn a_zip_bomb_is_one_malformed_record() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bomb.json", zip::write::SimpleFileOptions::default()).unwrap();
    for _ in 0..40 {
        zip.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    let mut import = Import::new();
    assert!(matches!(import.add("bomb", Cursor::new(bytes)), Err(ImportError::Nothing { .. })));
    assert_eq!((import.stats().malformed, import.stats().records), (1, 0));
}

#[test]
fn one_source_is_replaced_and_the_others_stay() {
    let mut import = Import::new();
    let of = |id: &str, name: &str| {
        record(id, serde_json::json!({ "affected": [fixed("Debian:12", name, "2")] })).to_string()
    };
    let debian_12 = "Debian:12".parse().unwrap();
    import.add("one", Cursor::new(of("CVE-1", "a"))).unwrap();
    import.add("two", Cursor::new(of("CVE-2", "a") + "\n" + &of("CVE-3", "b"))).unwrap();
    import.covers("one", &debian_12).unwrap();
    import.covers("two", &debian_12).unwrap();
    let old = Db::from_bytes(import.finish().unwrap()).unwrap();
    let mut import = Import::new();
    import.carry(&old, &["one"]).unwrap();
    import.add("one", Cursor::new(of("CVE-4", "a"))).unwrap();
    import.covers("one", &debian_12).unwrap();
    let new = Db::from_bytes(import.finish().unwrap()).unwrap();
    let findings = match_report(&debian(&[("a", "1"), ("b", "1")]), &new).unwrap();
    assert_eq!(ids(&findings), ["CVE-2", "CVE-3", "CVE-4"]);
    let mut sources: Vec<_> = findings.coverage.iter().map(|c| (c.source.as_str(), c.records)).collect();
    sources.sort_unstable();
    assert_eq!(sources, [("one", 1), ("two", 2)]);
}

#[test]
fn exploited_vulnerabilities_are_marked() {
    let mut import = Import::new();
    let record = record(
        "DSA-1",
        serde_json::json!({ "upstream": ["CVE-1", "CVE-2"], "affected": [fixed("Debian:12", "a", "2")] }),
    );
    import.add("osv", Cursor::new(record.to_string())).unwrap();
    import.covers("osv", &"Debian:12".parse().unwrap()).unwrap();
    let list = br#"{"title":"x","catalogVersion":"1","dateReleased":"2026-01-01T00:00:00.5Z","count":1,"vulnerabilities":[{"cveID":"CVE-2"}]}"#;
    import.add("kev", Cursor::new(list)).unwrap();
    let db = Db::from_bytes(import.finish().unwrap()).unwrap();
    let findings = match_report(&debian(&[("a", "1")]), &db).unwrap();
    let marked: Vec<_> = findings.findings.iter().map(|f| (f.id.as_str(), f.known_exploited)).collect();
    assert_eq!(marked, [("CVE-1", false), ("CVE-2", true)]);
    assert_eq!(findings.coverage.last().unwrap().source, "kev");
}

#[test]
fn files_that_are_no_database_are_refused() {
    let good = {
        let mut import = Import::new();
        let record = record("CVE-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }));
        import.add("osv", Cursor::new(record.to_string())).unwrap();
        import.finish().unwrap()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &good).unwrap();
    let open = Db::open(file.path()).unwrap();
    assert_eq!(open.version(), Db::from_bytes(good.clone()).unwrap().version());
    assert_eq!(match_report(&debian(&[("a", "1")]), &open).unwrap().findings.len(), 1);
    assert!(matches!(Db::from_bytes(b"wharf".to_vec()), Err(DbError::NotADatabase)));
    assert!(matches!(Db::from_bytes(vec![0; 200]), Err(DbError::NotADatabase)));
    let mut newer = good.clone();
    newer[8] += 1;
    assert!(matches!(Db::from_bytes(newer), Err(DbError::Version { found }) if found == DB_VERSION + 1));
    for cut in [8, good.len() - 1] {
        assert!(matches!(Db::from_bytes(good[..cut].to_vec()), Err(DbError::Damaged(_))), "cut at {cut}");
    }
    for at in 12..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x55;
        assert!(matches!(Db::from_bytes(changed), Err(DbError::Damaged(_))), "byte {at}");
    }
}

#[test]
fn files_that_are_no_records_are_refused() {
    for text in ["[1", "{\"id\":", "hello"] {
        let result = Import::new().add("x", Cursor::new(text));
        assert!(matches!(result, Err(ImportError::Json { .. })), "{text}");
    }
    assert!(matches!(Import::new().add("x", Cursor::new("PK\x03\x04....")), Err(ImportError::Zip { .. })));
}

proptest! {
    #[test]
    fn an_import_never_panics(head in "(PK\x03\x04|PK\x05\x06|\\[|\\{|\"catalogVersion\")?", bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Import::new().add("x", Cursor::new([head.as_bytes(), &bytes].concat()));
    }

    /// A record that is right but for one value, which may be anything: it is kept or counted, and what is kept can be matched.
    #[test]
    fn records_of_any_value_are_kept_or_counted(
        key in "id|modified|aliases|upstream|severity|affected|withdrawn|database_specific|package|ranges|versions|events",
        value in "null|0|\"\"|\"x\"|\\[\\]|\\{\\}|\\[null\\]|\\[\\{\\}\\]|\\[\\[\\]\\]|\\[\"1\"\\]|\\[\\{\"introduced\":\"\",\"fixed\":\"0\"\\}\\]",
    ) {
        let text = record("CVE-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")], "aliases": [],
            "upstream": [], "severity": [], "withdrawn": null, "database_specific": {}, "versions": [] })).to_string();
        let place = format!("\"{key}\":");
        let Some(at) = text.find(&place).map(|at| at + place.len()) else { return Ok(()) };
        let mut rest = serde_json::Deserializer::from_str(&text[at..]).into_iter::<serde_json::Value>();
        let _ = rest.next();
        let changed = format!("{}{value}{}", &text[..at], &text[at + rest.byte_offset()..]);
        let mut import = Import::new();
        let added = import.add("x", Cursor::new(changed));
        let stats = import.stats().clone();
        let is_refused = matches!(added, Err(ImportError::Nothing { .. }));
        prop_assert!(added.is_ok() || is_refused, "{:?}", added);
        prop_assert_eq!(is_refused, stats.kept == 0);
        let others: u64 = stats.others.values().sum();
        prop_assert_eq!(stats.kept + stats.withdrawn + stats.malformed + others, 1);
        let db = Db::from_bytes(import.finish().unwrap()).unwrap();
        match_report(&debian(&[("a", "1")]), &db).unwrap();
    }
}

#[test]
fn a_file_that_brings_nothing_replaces_nothing() {
    let old = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    for nothing in ["", "[]", r#"[{"id":"PYSEC-1","modified":"2026-01-02T03:04:05Z","affected":[]}]"#] {
        let mut import = Import::new();
        import.carry(&old, &["osv"]).unwrap();
        let added = import.add("osv", Cursor::new(nothing));
        assert!(matches!(added, Err(ImportError::Removes { .. })), "{nothing}: {added:?}");
    }
}

/// Regression: a file whose every record was over a bound was told as an empty one.
#[test]
fn a_file_that_brings_nothing_is_told_with_what_was_left_out() {
    let check = |file: serde_json::Value, expected: &str| {
        let error = Import::new().add("own", Cursor::new(file.to_string())).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`own` has nothing to keep ({expected});")), "{error}");
    };
    check(serde_json::json!([]), "records: 0");
    let names = vec!["CVE-1"; 5000];
    let named = record("OWN-1", serde_json::json!({ "aliases": names }));
    check(named, "records: 1, malformed: 1 (`OWN-1`: it has too many names)");
    let withdrawn = record("OWN-2", serde_json::json!({ "withdrawn": "2026-01-03T00:00:00Z" }));
    let other = record("OWN-3", serde_json::json!({ "affected": [fixed("PyPI", "a", "2")] }));
    check(
        serde_json::json!([withdrawn, other]),
        "records: 2, withdrawn: 1, of ecosystems that are not matched: 1",
    );
}

/// Regression: advisories that were withdrawn, or imported under a mistyped name, held images for ever.
#[test]
fn a_source_is_removed_by_a_file_that_brings_nothing_if_asked() {
    let gone = serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")], "withdrawn": "2026-01-03T00:00:00Z" });
    let list = |ids: &[&str]| {
        let all: Vec<_> = ids.iter().map(|id| serde_json::json!({ "cveID": id })).collect();
        serde_json::json!({ "catalogVersion": "1", "dateReleased": "2026-01-01T00:00:00Z", "vulnerabilities": all })
            .to_string()
    };
    let of =
        |id: &str| record(id, serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] })).to_string();
    let mut import = Import::new();
    import.add("own", Cursor::new(of("CVE-1"))).unwrap();
    import.covers("own", &"Debian:12".parse().unwrap()).unwrap();
    import.add("other", Cursor::new(of("CVE-2"))).unwrap();
    import.add("kev", Cursor::new(list(&["CVE-2"]))).unwrap();
    let old = Db::from_bytes(import.finish().unwrap()).unwrap();
    let check = |source: &str, file: &str, sources: &[&str], knowledge: Knowledge| {
        let mut import = Import::new().accept_fewer(true);
        import.carry(&old, &[source]).unwrap();
        import.add(source, Cursor::new(file)).unwrap();
        assert_eq!(import.stats().removed, [source]);
        let new = Db::from_bytes(import.finish().unwrap()).unwrap();
        let left: Vec<_> = new.coverage().into_iter().map(|left| left.source).collect();
        assert_eq!(left, sources, "{source}: {file}");
        let findings = match_report(&debian(&[("a", "1")]), &new).unwrap();
        assert_eq!(findings.knowledge, knowledge, "{source}: {file}");
        findings.findings.into_iter().map(|found| (found.id, found.known_exploited)).collect::<Vec<_>>()
    };
    let other = [("CVE-2".to_owned(), true)];
    assert_eq!(check("own", "[]", &["other", "kev"], Knowledge::None), other);
    assert_eq!(check("own", &record("CVE-1", gone).to_string(), &["other", "kev"], Knowledge::None), other);
    let all = [("CVE-1".to_owned(), false), ("CVE-2".to_owned(), false)];
    assert_eq!(check("kev", &list(&[]), &["own", "other"], Knowledge::Complete), all);
    assert_eq!(check("kev", "[]", &["own", "other"], Knowledge::Complete), all);
    // A name that nothing was imported under may be mistyped.
    let mut import = Import::new().accept_fewer(true);
    import.carry(&old, &["onw"]).unwrap();
    assert!(matches!(import.add("onw", Cursor::new("[]")), Err(ImportError::Nothing { .. })));
}

#[test]
fn the_last_source_can_be_removed() {
    let old = db(&[record("CVE-2026-1", serde_json::json!({ "affected": [fixed("Debian:12", "a", "2")] }))]);
    let mut import = Import::new().accept_fewer(true);
    import.carry(&old, &["osv"]).unwrap();
    import.add("osv", Cursor::new("[]")).unwrap();
    let new = Db::from_bytes(import.finish().unwrap()).unwrap();
    assert_eq!((new.coverage(), new.releases().count()), (Vec::new(), 0));
    let findings = match_report(&debian(&[("a", "1")]), &new).unwrap();
    assert_eq!((findings.knowledge, findings.findings.len()), (Knowledge::None, 0));
}

/// Regression: an export of which next to nothing could be read covered its release, and images were shown clean.
#[test]
fn an_export_that_cannot_be_read_for_the_most_part_is_refused() {
    let check = |malformed: usize, is_refused: bool| {
        let broken = (0..malformed).map(|i| serde_json::json!({ "id": format!("CVE-{i}") }));
        let zip = zipped(export("Debian:12", 300).chain(broken));
        let added = Import::new().add("Debian", Cursor::new(&zip));
        assert_eq!(matches!(added, Err(ImportError::Malformed { .. })), is_refused, "{malformed}");
        assert!(Import::new().accept_fewer(true).add("Debian", Cursor::new(&zip)).is_ok());
    };
    check(0, false);
    check(3, false);
    check(4, true);
    check(1_000, true);
}

/// Regression: that a part of an export could not be read was told at its import and never again.
#[test]
fn malformed_records_are_counted_as_long_as_their_source_is_there() {
    let import = |old: Option<&Db>, source: &str, malformed: usize| {
        let broken = (0..malformed).map(|i| serde_json::json!({ "id": format!("CVE-{i}") }));
        let mut import = Import::new();
        if let Some(old) = old {
            import.carry(old, &[source]).unwrap();
        }
        import.add(source, Cursor::new(zipped(export("Debian:12", 300).chain(broken)))).unwrap();
        let db = Db::from_bytes(import.finish().unwrap()).unwrap();
        let counts = ["one", "two"].map(|source| db.malformed(source));
        (db, counts)
    };
    let (db, counts) = import(None, "one", 3);
    assert_eq!(counts, [3, 0]);
    let (db, counts) = import(Some(&db), "two", 2);
    assert_eq!(counts, [3, 2]);
    let (_, counts) = import(Some(&db), "one", 0);
    assert_eq!(counts, [0, 2]);
}

#[test]
fn a_database_from_before_malformed_records_were_counted_is_read() {
    let mut import = Import::new();
    import.add("one", Cursor::new(zipped(export("Debian:12", 3)))).unwrap();
    let mut bytes = import.finish().unwrap();
    let described = u64::from_le_bytes(bytes[44..52].try_into().unwrap());
    // No counts are one byte at the end of the description.
    assert_eq!(bytes.remove(67 + usize::try_from(described).unwrap()), 0);
    bytes[44..52].copy_from_slice(&(described - 1).to_le_bytes());
    let digest = Sha256::digest(&bytes[68..]);
    bytes[12..44].copy_from_slice(&digest);
    let db = Db::from_bytes(bytes).unwrap();
    assert_eq!((db.coverage().len(), db.malformed("one")), (1, 0));
}

/// Regression: images lost their data without a word when a nightly import forgot `--covers`.
#[test]
fn a_source_does_not_stop_covering_a_release_unasked() {
    let import = |old: Option<&Db>, covers: bool, accepts_fewer: bool| {
        let mut import = Import::new().accept_fewer(accepts_fewer);
        if let Some(old) = old {
            import.carry(old, &["own"]).unwrap();
        }
        let records: Vec<_> = export("Debian:12", 3).collect();
        import.add("own", Cursor::new(serde_json::to_string(&records).unwrap())).unwrap();
        if covers {
            import.covers("own", &"Debian:12".parse().unwrap()).unwrap();
        }
        import.finish().map(|bytes| Db::from_bytes(bytes).unwrap())
    };
    let old = import(None, true, false).unwrap();
    assert!(import(Some(&old), true, false).is_ok());
    assert!(matches!(import(Some(&old), false, false), Err(ImportError::Uncovered { .. })));
    assert!(import(Some(&old), false, true).is_ok());
}
