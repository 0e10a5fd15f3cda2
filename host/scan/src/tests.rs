//! Whole scans of small images: what the report says.

use crate::assembly::LICENCE_BYTES;
use crate::testing::*;
use crate::*;

fn debian(status: &str) -> Vec<u8> {
    tar(&[
        Put::File("usr/lib/os-release", OS_RELEASE),
        Put::Link("etc/os-release", "../usr/lib/os-release"),
        Put::File("var/lib/dpkg/status", status.as_bytes()),
    ])
}

fn listed(report: &Report) -> Vec<(&str, &str, u32)> {
    report.packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.layer)).collect()
}

fn codes(report: &Report) -> Vec<ProblemCode> {
    report.problems.iter().map(|p| p.code).collect()
}

#[test]
fn reads_a_debian_image_in_every_compression() {
    let base = debian(&stanza("bash", "5.2.15-2+b7"));
    let config = config(&[&base]);
    for stored in [base.clone(), gzip(&base), zstd(&base), [gzip(&base[..700]), gzip(&base[700..])].concat()]
    {
        let image = Image { config: &config, layers: vec![layer(&stored)] };
        let report = scan(image, &Limits::default(), &mut |_| {}).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.knowledge, Knowledge::Complete);
        assert_eq!(listed(&report), [("bash", "5.2.15-2+b7", 0)]);
        assert_eq!(report.packages[0].purl, "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12");
        assert_eq!(report.layers[0].files, 2);
        assert_eq!(report.layers[0].uncompressed, base.len() as u64);
    }
}

#[test]
fn zstd_frames_may_be_many_and_some_skippable() {
    let base = debian(&stanza("bash", "1"));
    let table = [&[0x5e, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"table"].concat();
    let stored = [table.clone(), zstd(&base[..1000]), table.clone(), zstd(&base[1000..]), table].concat();
    let config = config(&[&base]);
    let report =
        scan(Image { config: &config, layers: vec![layer(&stored)] }, &Limits::default(), &mut |_| {})
            .unwrap();
    assert_eq!((codes(&report), listed(&report)), (vec![], vec![("bash", "1", 0)]));
}

#[test]
fn attributes_each_package_to_the_layer_of_its_present_version() {
    let (a, b, c) = (stanza("a", "1"), stanza("b", "1"), stanza("c", "1"));
    let base = debian(&(a.clone() + &b));
    let install = tar(&[Put::File("var/lib/dpkg/status", (a.clone() + &b + &c).as_bytes())]);
    let upgrade = tar(&[Put::File("var/lib/dpkg/status", (a + &stanza("b", "2") + &c).as_bytes())]);
    let touch = tar(&[Put::File("tmp/x", b"x")]);
    let report = scan_tars(&[&base, &install, &upgrade, &touch]);
    assert_eq!(listed(&report), [("a", "1", 0), ("b", "2", 2), ("c", "1", 1)]);
}

#[test]
fn whiteouts_remove_and_opaque_directories_replace() {
    let base = debian(&stanza("a", "1"));
    let removed = tar(&[Put::File("var/lib/dpkg/.wh.status", b"")]);
    let report = scan_tars(&[&base, &removed]);
    assert_eq!((listed(&report), report.knowledge), (vec![], Knowledge::Unsupported));
    assert_eq!(codes(&report), [ProblemCode::NoPackages]);
    // The opaque mark comes last in its archive and hides nothing of its own layer.
    let replaced = tar(&[
        Put::File("var/lib/dpkg/status.d/b", stanza("b", "1").as_bytes()),
        Put::File("var/lib/dpkg/.wh..wh..opq", b""),
    ]);
    let report = scan_tars(&[&base, &replaced]);
    assert_eq!((listed(&report), report.layers[1].whiteouts), (vec![("b", "1", 1)], 1));
}

#[test]
fn members_land_where_the_links_of_lower_layers_lead() {
    let apk = |version: &str| format!("P:musl\nV:{version}\nA:x86_64\n\n");
    let base = tar(&[
        Put::File("etc/os-release", b"ID=alpine\nVERSION_ID=3.23.0\n"),
        Put::Link("lib", "usr/lib"),
        Put::File("usr/lib/apk/db/installed", apk("1").as_bytes()),
    ]);
    let upgrade = tar(&[Put::File("lib/apk/db/installed", apk("2").as_bytes())]);
    assert_eq!(listed(&scan_tars(&[&base, &upgrade])), [("musl", "2", 1)]);
    let removed = tar(&[Put::File("lib/apk/db/.wh.installed", b"")]);
    assert_eq!(listed(&scan_tars(&[&base, &removed])), []);
    let emptied = tar(&[Put::File("lib/apk/.wh..wh..opq", b"")]);
    assert_eq!(listed(&scan_tars(&[&base, &emptied])), []);
}

/// Regression: what a layer wrote through a link elsewhere was not seen, and a database of the layers below it stood.
#[test]
fn members_land_where_links_from_elsewhere_lead() {
    let check = |links: &[(&str, &str)], path: &str, expected: (&str, &str, u32)| {
        let (old, new) = (stanza("a", "1"), stanza("a", "2"));
        let mut members = vec![Put::File("var/lib/dpkg/status", old.as_bytes())];
        members.extend(links.iter().map(|(from, to)| Put::Link(from, to)));
        let upper = tar(&[Put::File(path, new.as_bytes())]);
        let report = scan_tars(&[&tar(&members), &upper]);
        assert_eq!((listed(&report), codes(&report)), (vec![expected], vec![]), "{path}");
    };
    let (old, new) = (("a", "1", 0), ("a", "2", 1));
    check(&[("opt/x", "/var/lib/dpkg")], "opt/x/status", new);
    check(&[("opt/x", "../var")], "opt/x/lib/dpkg/status", new);
    check(&[("host", "/")], "host/var/lib/dpkg/status", new);
    check(&[("opt/x", "/var/lib/dpkg"), ("srv/y", "../opt/x")], "srv/y/status", new);
    check(&[("bin", "usr/bin"), ("opt/x", "/var/log")], "opt/x/status", old);
}

/// Regression: a link to one that came after it was taken to lead nowhere, and the image was complete without what was written
/// through it.
#[test]
fn a_link_to_one_that_comes_later_is_told() {
    let check = |links: &[(&str, &str)], expected: &[ProblemCode], knowledge: Knowledge| {
        let status = stanza("a", "1");
        let mut members = vec![Put::File("var/lib/dpkg/status", status.as_bytes())];
        members.extend(links.iter().map(|(from, to)| Put::Link(from, to)));
        let report = scan_tars(&[&tar(&members)]);
        assert_eq!((codes(&report).as_slice(), report.knowledge), (expected, knowledge), "{links:?}");
    };
    let told = [ProblemCode::Link];
    check(&[("opt/b", "a"), ("opt/a", "/var/lib/dpkg")], &told, Knowledge::Partial);
    check(&[("opt/b", "a/dpkg"), ("opt/a", "/var/lib")], &told, Knowledge::Partial);
    check(&[("b", "a/var/lib"), ("a", "/")], &told, Knowledge::Partial);
    check(&[("opt/a", "/var/lib/dpkg"), ("opt/b", "a")], &[], Knowledge::Complete);
    check(&[("bin/ld", "/lib64/ld.so"), ("lib64", "lib")], &[], Knowledge::Complete);
}

/// Regression: a hard link to a link from elsewhere was a file that leads nowhere.
#[test]
fn a_hard_link_to_a_link_leads_where_that_leads() {
    let (old, new) = (stanza("a", "1"), stanza("a", "2"));
    let check = |link: Put<'_>, hard: Put<'_>, path: &str, expected: (&str, &str, u32)| {
        let base = tar(&[Put::File("var/lib/dpkg/status", old.as_bytes()), link, hard]);
        let upper = tar(&[Put::File(path, new.as_bytes())]);
        let report = scan_tars(&[&base, &upper]);
        assert_eq!((listed(&report), codes(&report)), (vec![expected], vec![]), "{path}");
    };
    let written = ("a", "2", 1);
    check(Put::Link("opt/x", "/var/lib/dpkg"), Put::Hard("srv/y", "opt/x"), "srv/y/status", written);
    check(Put::Link("opt/x", "../var"), Put::Hard("srv/y", "opt/x"), "srv/y/lib/dpkg/status", written);
    check(Put::Link("opt/x", "/var/log"), Put::Hard("srv/y", "opt/x"), "srv/y/status", ("a", "1", 0));
    // At a path of interest.
    let base = tar(&[
        Put::File("usr/lib/apk/db/installed", b"P:musl\nV:1\nA:x86_64\n\n"),
        Put::Link("opt/x", "/usr/lib"),
        Put::Hard("lib", "opt/x"),
    ]);
    let upper = tar(&[Put::File("lib/apk/db/installed", b"P:musl\nV:2\nA:x86_64\n\n")]);
    assert_eq!(listed(&scan_tars(&[&base, &upper])), [("musl", "2", 1)]);
}

#[test]
fn a_link_from_elsewhere_leads_nowhere_once_something_took_its_place() {
    let status = stanza("a", "1");
    let base =
        tar(&[Put::File("var/lib/dpkg/status", status.as_bytes()), Put::Link("opt/x", "/var/lib/dpkg")]);
    let written = tar(&[Put::File("opt/x/status", stanza("a", "2").as_bytes())]);
    for put in [
        Put::File("opt/.wh.x", b""),
        Put::File("opt/.wh..wh..opq", b""),
        Put::File("opt", b""),
        Put::Directory("opt/x"),
        Put::Link("opt/x", "/var/log"),
    ] {
        assert_eq!(listed(&scan_tars(&[&base, &tar(&[put]), &written])), [("a", "1", 0)]);
    }
}

/// Regression: `lib/os-release` is of no interest itself, and is `usr/lib/os-release` where `lib` is a link.
#[test]
fn members_of_interest_have_other_names_through_a_link() {
    let base = tar(&[Put::File("usr/lib/os-release", OS_RELEASE), Put::Link("lib", "usr/lib")]);
    let upper = tar(&[Put::File("lib/os-release", b"ID=alpine\nVERSION_ID=3.22.1\n")]);
    assert_eq!(scan_tars(&[&base, &upper]).distro.unwrap().id, "alpine");
}

#[test]
fn reads_distroless_and_alpine() {
    let distroless = tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status.d/base-files", stanza("base-files", "12.4").as_bytes()),
        Put::File("var/lib/dpkg/status.d/base-files.md5sums", b"d41d  x\n"),
    ]);
    assert_eq!(listed(&scan_tars(&[&distroless])), [("base-files", "12.4", 0)]);
    let alpine = tar(&[
        Put::File("etc/os-release", b"ID=alpine\nVERSION_ID=3.22.1\n"),
        Put::Link("lib", "usr/lib"),
        Put::File(
            "usr/lib/apk/db/installed",
            b"P:libssl3\nV:3.5.1-r0\nA:x86_64\nL:Apache-2.0\no:openssl\n\n",
        ),
    ]);
    let report = scan_tars(&[&alpine]);
    assert_eq!(report.knowledge, Knowledge::Complete);
    let [package] = report.packages.as_slice() else { panic!("{report:?}") };
    assert_eq!((package.source.as_str(), package.source_version.as_str()), ("openssl", "3.5.1-r0"));
    assert_eq!(package.purl, "pkg:apk/alpine/libssl3@3.5.1-r0?arch=x86_64&distro=alpine-3.22.1");
    assert_eq!(package.licences, ["Apache-2.0"]);
}

#[test]
fn licences_come_from_copyright_files_through_links() {
    let copyright =
        b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nLicense: Expat\n";
    let base = debian(&(stanza("gcc-12-base", "12") + &stanza("libgcc-s1", "12") + &stanza("x", "1")));
    let docs = tar(&[
        Put::File("usr/share/doc/gcc-12-base/copyright", copyright),
        Put::Link("usr/share/doc/libgcc-s1", "gcc-12-base"),
    ]);
    let report = scan_tars(&[&base, &docs]);
    let licences: Vec<_> = report.packages.iter().map(|p| p.licences.join("")).collect();
    assert_eq!(licences, ["MIT", "MIT", ""]);
    assert_eq!(report.knowledge, Knowledge::Complete);
}

/// Regression: a package with a copyright file of more than 256 KiB looked like one without a licence.
#[test]
fn a_large_copyright_file_is_read_and_one_beyond_the_bound_is_a_problem() {
    let text =
        format!("Format: x\nLicense: Expat\n{}License: Zlib\n", " a line of its text\n".repeat(50_000));
    let base = debian(&stanza("boost", "1"));
    let docs = tar(&[Put::File("usr/share/doc/boost/copyright", text.as_bytes())]);
    let check = |file_bytes: usize, licences: &[String], knowledge: Knowledge| {
        let limits = Limits { file_bytes: u32::try_from(file_bytes).unwrap(), ..Limits::default() };
        let report = scan_with(&[&base, &docs], &limits);
        assert_eq!((report.packages[0].licences.as_slice(), report.knowledge), (licences, knowledge));
    };
    check(text.len(), &["MIT".to_owned(), "Zlib".to_owned()], Knowledge::Complete);
    check(text.len() - 1, &[], Knowledge::Partial);
}

/// What was left out looked like packages without a licence.
#[test]
fn licences_that_are_left_out_are_a_problem() {
    let fit = LICENCE_BYTES / 1024;
    let check = |packages: usize, expected: Knowledge| {
        // As long as a package's licence may be.
        let licence = "x".repeat(1024);
        let database: String =
            (0..packages).map(|n| format!("P:p{n}\nV:1-r0\nA:x86_64\nL:{licence}\n\n")).collect();
        let report = scan_tars(&[&tar(&[Put::File("lib/apk/db/installed", database.as_bytes())])]);
        assert_eq!((report.packages.len(), report.knowledge), (packages, expected), "{:?}", report.problems);
        let licensed = report.packages.iter().filter(|package| !package.licences.is_empty());
        assert_eq!(licensed.count(), packages.min(fit));
    };
    check(fit, Knowledge::Complete);
    check(fit + 1, Knowledge::Partial);
}

#[test]
fn hard_links_share_what_they_name() {
    let image = tar(&[
        Put::File("usr/lib/os-release", OS_RELEASE),
        Put::Hard("etc/os-release", "usr/lib/os-release"),
        Put::File("var/lib/dpkg/status", stanza("a", "1").as_bytes()),
    ]);
    let report = scan_tars(&[&image]);
    assert_eq!(report.distro.unwrap().version_id.as_deref(), Some("12"));
    let elsewhere = tar(&[Put::File("opt/s", b"x"), Put::Hard("var/lib/dpkg/status", "opt/s")]);
    let report = scan_tars(&[&elsewhere]);
    assert_eq!((codes(&report)[0], report.knowledge), (ProblemCode::Link, Knowledge::Partial));
}

#[test]
fn databases_that_are_not_read_are_said_to_be_there() {
    let rpm = tar(&[Put::File("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3")]);
    let report = scan_tars(&[&rpm]);
    assert_eq!(
        (codes(&report), report.knowledge),
        (vec![ProblemCode::UnsupportedDistro], Knowledge::Unsupported)
    );
    let scratch = tar(&[Put::File("server", b"\x7fELF")]);
    let report = scan_tars(&[&scratch]);
    assert_eq!((codes(&report), report.knowledge), (vec![ProblemCode::NoPackages], Knowledge::Unsupported));
}

/// Regression: an rpm database behind a link to a folder that is not looked at was not there, and the image complete.
#[test]
fn a_database_that_is_not_read_is_found_through_links_or_told_to_be_lost() {
    let check = |links: &[(&str, &str)], more: &[&str], expected: &[ProblemCode], knowledge: Knowledge| {
        let status = stanza("a", "1");
        let mut members = vec![Put::File("var/lib/dpkg/status", status.as_bytes())];
        members.extend(links.iter().map(|(from, to)| Put::Link(from, to)));
        members.extend(more.iter().map(|path| Put::File(path, b"SQLite format 3")));
        let report = scan_tars(&[&tar(&members)]);
        assert_eq!((codes(&report).as_slice(), report.knowledge), (expected, knowledge), "{links:?}");
    };
    let here = [ProblemCode::UnsupportedDistro];
    let fedora = [("var/lib/rpm", "../../usr/lib/sysimage/rpm")];
    check(&fedora, &["usr/lib/sysimage/rpm/rpmdb.sqlite"], &here, Knowledge::Unsupported);
    check(&fedora, &[], &[], Knowledge::Complete);
    let ostree = [("var/lib/rpm", "../../usr/share/rpm")];
    check(&ostree, &["usr/share/rpm/rpmdb.sqlite"], &here, Knowledge::Unsupported);
    let elsewhere = [("var/lib/rpm", "/srv/rpm")];
    check(&elsewhere, &["srv/rpm/rpmdb.sqlite"], &[ProblemCode::Link], Knowledge::Partial);
}

/// The folder of a database behind a link to one that is not looked at.
#[test]
fn an_image_with_its_databases_in_another_folder_is_not_known() {
    let status = stanza("hidden", "1");
    let image = tar(&[
        Put::File("lib/apk/db/installed", b"P:seen\nV:1-r0\n"),
        Put::Link("var/lib", "/srv/lib"),
        Put::File("srv/lib/dpkg/status", status.as_bytes()),
    ]);
    let report = scan_tars(&[&image]);
    assert_eq!((report.packages.len(), report.knowledge), (1, Knowledge::Partial));
    assert!(codes(&report).iter().all(|code| *code == ProblemCode::Link), "{:?}", report.problems);
}

#[test]
fn the_first_problems_are_told_and_the_others_counted() {
    let good = debian(&stanza("a", "1"));
    let (config, n) = (config(&[good.as_slice(); 6]), 6);
    let of = |missing: usize, limits: &Limits| {
        let layers = (0..n).map(|i| {
            let mut layer = layer(&good);
            layer.open = layer.open.filter(|_| i >= missing);
            layer
        });
        scan(Image { config: &config, layers: layers.collect() }, limits, &mut |_| {}).unwrap().why()
    };
    let all = Limits::default();
    assert_eq!(of(0, &all), None);
    let told = |i: usize| format!("layer {i}: the layer's bytes are not here (a foreign layer)");
    assert_eq!(of(2, &all), Some(format!("{}; {}", told(0), told(1))));
    let five = Some(format!("{}; {}; {}; and 2 more", told(0), told(1), told(2)));
    assert_eq!(of(5, &all), five);
    // Those that were dropped count, too.
    assert_eq!(of(5, &Limits { problems: 4, ..Limits::default() }), five);
}

#[test]
fn a_report_is_canonical() {
    let base = debian(&(stanza("b", "1") + &stanza("a", "1")));
    let (one, two) = (scan_tars(&[&base]), scan_tars(&[&base]));
    assert_eq!(one.to_json().unwrap(), two.to_json().unwrap());
    assert_eq!(one.digest().unwrap(), wharf_oci::Digest::sha256(&one.to_json().unwrap()).to_string());
    assert_eq!(serde_json::from_slice::<Report>(&one.to_json().unwrap()).unwrap(), one);
    assert_eq!(listed(&one), [("a", "1", 0), ("b", "1", 0)]);
}

#[test]
fn digests_are_checked_against_manifest_and_configuration() {
    let base = debian(&stanza("a", "1"));
    let other = debian(&stanza("a", "2"));
    let config_of_other = config(&[&other]);
    let report =
        scan(Image { config: &config_of_other, layers: vec![layer(&base)] }, &Limits::default(), &mut |_| {})
            .unwrap();
    assert_eq!((codes(&report), report.knowledge), (vec![ProblemCode::DiffIdMismatch], Knowledge::Partial));
    let config = config(&[&base]);
    let mut wrong = layer(&base);
    wrong.descriptor.digest = wharf_oci::Digest::sha256(b"other");
    let report =
        scan(Image { config: &config, layers: vec![wrong] }, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!((codes(&report), report.knowledge), (vec![ProblemCode::DigestMismatch], Knowledge::Partial));
    let mut short = layer(&base);
    short.descriptor.size += 1;
    let report =
        scan(Image { config: &config, layers: vec![short] }, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!(codes(&report), [ProblemCode::SizeMismatch]);
}

/// Regression: an image with layers named by sha512 in its configuration had the wrong layers.
#[test]
fn uncompressed_digests_are_of_the_algorithm_that_the_configuration_names() {
    let base = debian(&stanza("a", "1"));
    let diff_id = wharf_oci::Algorithm::Sha512.digest(&base);
    let config = serde_json::json!({ "rootfs": { "diff_ids": [diff_id] } }).to_string();
    let image = Image { config: config.as_bytes(), layers: vec![layer(&base)] };
    let report = scan(image, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!((codes(&report), report.knowledge), (vec![], Knowledge::Complete));
    assert_eq!(report.layers[0].diff_id, Some(diff_id.to_string()));
}

#[test]
fn layers_that_are_not_here_or_fail_are_partial_and_the_rest_is_read() {
    let base = debian(&stanza("a", "1"));
    let config = config(&[&base, &base, &base]);
    let mut foreign = layer(&base);
    foreign.open = None;
    let mut failing = layer(&base);
    failing.open = Some(Box::new(|| Err(std::io::Error::other("gone"))));
    let image = Image { config: &config, layers: vec![foreign, failing, layer(&base)] };
    let report = scan(image, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!(codes(&report), [ProblemCode::UnsupportedLayer, ProblemCode::Unreadable]);
    assert_eq!((listed(&report), report.knowledge), (vec![("a", "1", 2)], Knowledge::Partial));
}

#[test]
fn errors_of_the_image_itself_are_typed() {
    let image = |config| Image { config, layers: vec![] };
    let limits = Limits { layers: 1, config_bytes: 100, ..Limits::default() };
    assert!(matches!(scan(image(b"{"), &limits, &mut |_| {}), Err(ScanError::Config(_))));
    assert!(matches!(scan(image(&[b' '; 101]), &limits, &mut |_| {}), Err(ScanError::ConfigTooLarge { .. })));
    let layers = vec![layer(b""), layer(b"")];
    let result = scan(Image { config: b"{}", layers }, &limits, &mut |_| {});
    assert!(matches!(result, Err(ScanError::TooManyLayers { layers: 2, max: 1 })));
}
