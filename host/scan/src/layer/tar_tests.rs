use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn header(name: &str, size: u64, flag: u8) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..263].copy_from_slice(b"ustar\0");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    let mut out = header(name, data.len() as u64, flag).to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// Path, kind, contents, oversized.
type Found = (String, Kind, Vec<u8>, bool);

fn all(data: &[u8]) -> Result<Vec<Found>, TarError> {
    let mut tar = Tar::new(data, 4096, 1 << 16);
    let mut found = Vec::new();
    while let Some(entry) = tar.next()? {
        let data = tar.read_all(1 << 20)?.unwrap_or_default();
        found.push((entry.path, entry.kind, data, entry.oversized));
    }
    Ok(found)
}

/// The same archive by the `tar` crate's writer: long names, links, large numbers of members.
#[test]
fn agrees_with_the_tar_crate() {
    let long = format!("usr/share/{}/x", "long/".repeat(60));
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, data) in [("etc/os-release", "ID=debian\n"), (long.as_str(), "deep"), ("empty", "")] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, data.as_bytes()).unwrap();
    }
    let mut link = ::tar::Header::new_gnu();
    link.set_entry_type(::tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "lib", &long).unwrap();
    let data = builder.into_inner().unwrap();

    let mut tar = Tar::new(data.as_slice(), 4096, 1 << 16);
    let mut theirs = ::tar::Archive::new(data.as_slice());
    for entry in theirs.entries().unwrap() {
        let mut entry = entry.unwrap();
        let ours = tar.next().unwrap().unwrap();
        assert_eq!(ours.path, entry.path().unwrap().to_str().unwrap());
        let target = entry.link_name().unwrap();
        assert_eq!(ours.link, target.map(|l| l.to_str().unwrap().to_owned()).unwrap_or_default());
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        assert_eq!(tar.read_all(1 << 20).unwrap().unwrap(), contents);
    }
    assert!(tar.next().unwrap().is_none());
}

#[test]
fn pax_overrides_name_and_size() {
    let mut data = member("x", b'x', b"18 path=real/name\n10 size=3\n");
    data.extend(header("wrong", 0, b'0'));
    data.extend(b"abc");
    data.resize(data.len().next_multiple_of(512), 0);
    data.extend(member("next", b'0', b""));
    let found = all(&data).unwrap();
    assert_eq!(found[0], ("real/name".into(), Kind::File, b"abc".to_vec(), false));
    assert_eq!(found[1].0, "next");
}

/// A pax header of these records.
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let digits = (rest.len() + 2).to_string().len();
        format!("{}{rest}", rest.len() + digits)
    };
    member("pax", b'x', records.iter().map(record).collect::<String>().as_bytes())
}

/// Each of these is a name that Go's reader takes another way than the plain reading of the header would.
#[test]
fn names_are_those_that_a_runtime_extracts() {
    let long = |name: &str| member("././@LongLink", b'L', name.as_bytes());
    let file = || header("own", 0, b'0').to_vec();
    let check = |before: &[Vec<u8>], expected: &str| {
        let found = all(&[before.concat(), file()].concat()).unwrap();
        assert_eq!(found.iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), [expected]);
    };
    check(&[], "own");
    check(&[pax(&[("path", "pax")])], "pax");
    check(&[pax(&[("path", "")])], "own");
    check(&[pax(&[("path", "pax"), ("path", "")])], "own");
    check(&[pax(&[("path", "first")]), pax(&[("size", "0")])], "own");
    check(&[long("long"), pax(&[("path", "pax")])], "long");
    check(&[pax(&[("path", "pax")]), long("long")], "long");
    check(&[long("")], "own");
    check(&[pax(&[("GNU.sparse.name", "decoy"), ("path", "pax")])], "pax");
    check(&[pax(&[("GNU.sparse.major", "9"), ("GNU.sparse.name", "decoy")])], "own");
    let sparse = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "sparse")];
    check(&[long("long"), pax(&sparse)], "sparse");
}

#[test]
fn a_prefix_is_read_by_the_magic_that_says_where_it_ends() {
    let check = |magic: &[u8], trailer: &[u8], expected: &str| {
        let mut block = header("name", 0, b'0');
        block[345..500].fill(b'p');
        block[257..257 + magic.len()].copy_from_slice(magic);
        block[508..508 + trailer.len()].copy_from_slice(trailer);
        seal(&mut block);
        assert_eq!(all(&block).unwrap()[0].0, expected);
    };
    check(b"ustar\x0000", b"", &format!("{}/name", "p".repeat(155)));
    check(b"ustar\x0000", b"tar\0", &format!("{}/name", "p".repeat(131)));
    check(b"ustar  \0", b"", &format!("{}/name", "p".repeat(155)));
    check(b"\0\0\0\0\0\0\0\0", b"", "name");
}

#[test]
fn ustar_prefix_is_joined() {
    let mut block = header("name", 0, b'0');
    block[345..351].copy_from_slice(b"prefix");
    seal(&mut block);
    assert_eq!(all(&block).unwrap()[0].0, "prefix/name");
}

#[test]
fn an_oversized_name_costs_its_member_alone() {
    let mut data = member("././@LongLink", b'L', &vec![b'a'; 100_000]);
    data.extend(member("cut", b'0', b"1"));
    data.extend(member("fine", b'0', b"2"));
    let found = all(&data).unwrap();
    assert!(found[0].3);
    assert_eq!(found[1], ("fine".into(), Kind::File, b"2".to_vec(), false));
}

#[test]
fn a_directory_with_a_size_has_no_contents() {
    let mut data = header("dir/", 4096, b'5').to_vec();
    data.extend(member("file", b'0', b"x"));
    let found = all(&data).unwrap();
    assert_eq!((found[0].1, found[1].0.as_str()), (Kind::Directory, "file"));
}

#[test]
fn damage_is_told_where_it_is() {
    let mut data = member("a", b'0', b"x");
    data.extend([7; 512]);
    assert!(matches!(all(&data), Err(TarError::Checksum(1024))));
    let data = &member("a", b'0', &[1; 600])[..700];
    assert!(matches!(all(data), Err(TarError::Truncated("a file"))));
    let mut block = header("a", 0, b'0');
    block[124..136].copy_from_slice(b"zzzzzzzzzzz\0");
    seal(&mut block);
    assert!(matches!(all(&block), Err(TarError::Field { field: "size", .. })));
}

/// Regression: zeros before the digits were taken for the end of the field, so that a file's contents were read as headers.
#[test]
fn numbers_are_those_that_a_runtime_reads() {
    let check = |size: &[u8; 12], expected: Option<u64>| {
        let mut block = header("a", 0, b'0');
        block[124..136].copy_from_slice(size);
        seal(&mut block);
        let found = Tar::new(block.as_slice(), 4096, 1 << 16).next().ok().flatten();
        assert_eq!(found.map(|entry| entry.size), expected, "{size:?}");
    };
    check(b"00000000017\0", Some(15));
    check(b"         17 ", Some(15));
    check(b"\x0000000000017", Some(15));
    check(b"\0\0\0 17\0\0\0\0\0\0", Some(15));
    check(&[0; 12], Some(0));
    check(b"\t0000000017\0", None);
    check(b"-0000000017\0", None);
}

#[test]
fn a_declared_terabyte_is_not_allocated() {
    let mut block = header("huge", 0, b'0');
    block[124..136].copy_from_slice(b"77777777777\0");
    seal(&mut block);
    let mut tar = Tar::new(block.as_slice(), 4096, 1 << 16);
    let entry = tar.next().unwrap().unwrap();
    assert_eq!(entry.size, 0o77_777_777_777);
    assert!(matches!(tar.read_all(usize::MAX), Err(TarError::Truncated(_))));
}

proptest! {
    #[test]
    fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = all(&data);
    }

    /// Random changes behind a right checksum reach the parsers.
    #[test]
    fn never_panics_behind_the_checksum(at in 0usize..512, bytes in proptest::collection::vec(any::<u8>(), 1..40), flag in "[0-7LKxgS]", tail in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let mut block = header("name", 64, flag.as_bytes()[0]);
        let end = (at + bytes.len()).min(512);
        block[at..end].copy_from_slice(&bytes[..end - at]);
        seal(&mut block);
        let mut data = block.to_vec();
        data.extend(tail);
        let _ = all(&data);
    }

    #[test]
    fn pax_records_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = pax_record(&data);
    }

    #[test]
    fn contents_come_back(sizes in proptest::collection::vec(0usize..1500, 0..8)) {
        let mut data = Vec::new();
        for size in &sizes {
            data.extend(member("f", b'0', &vec![9; *size]));
        }
        data.extend([0; 1024]);
        let found = all(Cursor::new(data).get_ref()).unwrap();
        prop_assert_eq!(found.iter().map(|f| f.2.len()).collect::<Vec<_>>(), sizes);
    }
}
