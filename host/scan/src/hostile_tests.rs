//! Images that nobody should make. Each must end, within its bounds, with the rest of the image scanned.
//!
//! Memory is measured: this test binary's allocator counts what each thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Read};
use std::sync::LazyLock;

use proptest::prelude::*;
use wharf_oci::{Descriptor, Digest};

use crate::testing::*;
use crate::*;

/// Counts the bytes that a thread holds and the most it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    // A thread that is ending has no cell any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + change, most.max(now + change)));
    });
}

#[expect(
    unsafe_code,
    reason = "an allocator that counts, in tests only; it hands every call to the system's"
)]
// SAFETY: every method forwards its arguments unchanged to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most that a scan may hold, whatever the image.
const MOST_BYTES: usize = 256 << 20;

/// Runs `work` and gives the most bytes that it held at once beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get().0;
    HELD.set((before, before));
    let result = work();
    let most = HELD.get().1 - before;
    (result, most.max(0).cast_unsigned())
}

/// Members made while they are read, so that a test of gigabytes holds none.
struct Made<F>(F, Vec<u8>, usize);

fn made<F: FnMut() -> Option<Vec<u8>> + Send>(next: F) -> Made<F> {
    Made(next, Vec::new(), 0)
}

impl<F: FnMut() -> Option<Vec<u8>>> Read for Made<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.2 == self.1.len() {
            let Some(piece) = (self.0)() else { return Ok(0) };
            (self.1, self.2) = (piece, 0);
        }
        let n = buf.len().min(self.1.len() - self.2);
        buf[..n].copy_from_slice(&self.1[self.2..self.2 + n]);
        self.2 += n;
        Ok(n)
    }
}

/// A layer of unknown digest: the scan notes that it does not match, which is not what these tests look at.
fn unknown<'a>(bytes: u64, reader: impl Read + Send + 'a) -> Layer<'a> {
    Layer {
        descriptor: Descriptor::new(TAR.parse().unwrap(), Digest::sha256(b""), bytes),
        open: Some(Box::new(move || Ok(Box::new(reader) as Box<dyn Read + Send>))),
    }
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza("survivor", "1").as_bytes()),
    ])
});

static LATER: LazyLock<Vec<u8>> =
    LazyLock::new(|| tar(&[Put::File("var/lib/dpkg/status.d/later", stanza("later", "1").as_bytes())]));

/// Scans `hostile` between two good layers; what the good ones hold must be found.
fn between(hostile: Layer<'_>, limits: &Limits) -> (Report, usize) {
    let layers = vec![layer(&GOOD), hostile, layer(&LATER)];
    let (report, most) = peak(|| scan(Image { config: b"{}", layers }, limits, &mut |_| {}).unwrap());
    let names: Vec<&str> = report.packages.iter().map(|p| p.name.as_str()).collect();
    assert!(names.contains(&"survivor") && names.contains(&"later"), "{names:?}");
    assert_eq!(report.knowledge, Knowledge::Partial);
    assert!(most < MOST_BYTES, "{most} bytes held");
    (report, most)
}

#[track_caller]
fn has(report: &Report, code: ProblemCode) {
    let of_hostile = |p: &&Problem| p.layer == Some(1) && p.code == code;
    assert!(report.problems.iter().find(of_hostile).is_some(), "{:?}", report.problems);
}

/// Compressed zeros, `mib` of them.
fn gzip_bomb(mib: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..mib {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    encoder.finish().unwrap()
}

/// A zstd frame of run-length blocks: 4 bytes give 128 KiB each.
fn zstd_bomb(blocks: usize, window: u8) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
    for i in 0..blocks {
        let head = (128 << 10) << 3 | 1 << 1 | usize::from(i + 1 == blocks);
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

fn header(name: &str, size: u64, kind: tar::EntryType) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn a_gzip_bomb_stops_at_its_ratio() {
    let bomb = gzip_bomb(64);
    let limits = Limits { ratio: 10, ratio_floor_bytes: 4 << 20, ..Limits::default() };
    let (report, most) = between(layer(&bomb), &limits);
    has(&report, ProblemCode::Limit);
    assert!(report.layers[1].uncompressed < 5 << 20);
    assert!(most < 16 << 20, "{most}");
}

#[test]
fn a_zstd_bomb_stops_at_the_layers_bytes() {
    let bomb = zstd_bomb(2000, 0x50);
    let limits = Limits { layer_bytes: 8 << 20, ..Limits::default() };
    let (report, most) = between(layer(&bomb), &limits);
    has(&report, ProblemCode::Limit);
    assert!(most < 16 << 20, "{most}");
}

#[test]
fn all_layers_together_stop_at_the_images_bytes() {
    let bomb = gzip_bomb(8);
    let limits = Limits { image_bytes: 4 << 20, ..Limits::default() };
    let layers = vec![layer(&bomb), layer(&bomb)];
    let report = scan(Image { config: b"{}", layers }, &limits, &mut |_| {}).unwrap();
    let read: u64 = report.layers.iter().map(|l| l.uncompressed).sum();
    assert!(read <= (4 << 20) + (1 << 20), "{read}");
}

#[test]
fn a_zstd_window_that_asks_for_gigabytes_is_refused() {
    // Exponent 31: a window of 2 TiB.
    let (report, most) = between(layer(&zstd_bomb(4, 0xf8)), &Limits::default());
    has(&report, ProblemCode::Compression);
    assert!(most < 16 << 20, "{most}");
    // The largest that is allowed still fits.
    let (_, most) = between(layer(&zstd_bomb(600, 15 << 3)), &Limits::default());
    assert!(most < 200 << 20, "{most}");
}

#[test]
fn a_million_members_hold_no_more_than_a_few() {
    let mut left = 1_000_000u32;
    let one = header("usr/share/doc/x/file", 0, tar::EntryType::Regular);
    let source = made(move || {
        left = left.checked_sub(1000)?;
        Some(one.repeat(1000))
    });
    let (report, most) = between(unknown(512_000_000, source), &Limits::default());
    assert_eq!(report.layers[1].files, 1_000_000);
    assert!(most < 8 << 20, "{most}");
}

#[test]
fn more_members_than_allowed_stop_the_layer_and_the_rest_is_scanned() {
    let one = header("x", 0, tar::EntryType::Regular).repeat(10_000);
    let limits = Limits { entries: 1000, ..Limits::default() };
    let layers = vec![layer(&GOOD), layer(&one)];
    let report = scan(Image { config: b"{}", layers }, &limits, &mut |_| {}).unwrap();
    has(&report, ProblemCode::Limit);
    assert_eq!((report.packages.len(), report.layers[1].files), (1, 998));
}

/// Regression: the layer after the one that used up the members had no bound at all.
#[test]
fn members_are_bounded_over_all_layers() {
    let one = header("x", 0, tar::EntryType::Regular);
    let check = |entries: u64, expected: [u64; 3], knowledge: Knowledge| {
        let limits = Limits { entries, ..Limits::default() };
        let more = one.repeat(10);
        let report = scan_with(&[&GOOD, &more, &more], &limits);
        assert_eq!([0, 1, 2].map(|i: usize| report.layers[i].files), expected);
        assert_eq!(report.knowledge, knowledge, "{:?}", report.problems);
    };
    check(22, [2, 10, 10], Knowledge::Complete);
    check(21, [2, 10, 9], Knowledge::Partial);
    check(12, [2, 10, 0], Knowledge::Partial);
    check(5, [2, 3, 0], Knowledge::Partial);
}

#[test]
fn many_paths_of_interest_stop_at_what_is_kept() {
    let mut number = 0u32;
    let target = "x".repeat(99);
    let source = made(move || {
        number += 1;
        let name = format!("usr/share/doc/{number:080}");
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..99].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_cksum();
        (number < 300_000).then(|| header.as_bytes().to_vec())
    });
    let (report, most) = between_full(source);
    has(&report, ProblemCode::Limit);
    assert!(most < 128 << 20, "{most}");
}

/// As [`between`], where the later layer may find no room.
fn between_full(source: impl Read + Send) -> (Report, usize) {
    let layers = vec![layer(&GOOD), unknown(u64::MAX / 2, source)];
    let (report, most) =
        peak(|| scan(Image { config: b"{}", layers }, &Limits::default(), &mut |_| {}).unwrap());
    assert_eq!(report.packages.len(), 1);
    (report, most)
}

/// The worst database: as many packages as allowed, each as large as the file allows.
#[test]
fn an_early_large_database_does_not_starve_a_later_one_in_silence() {
    let status = "Package: a\nVersion: 1\n\n".repeat(50_000);
    let target = "x".repeat(4000);
    let mut members = Vec::new();
    let names: Vec<String> = (0..4).map(|i| format!("var/lib/dpkg/status.d/{i}")).collect();
    members.extend(names.iter().map(|name| Put::File(name, status.as_bytes())));
    let links: Vec<String> = (0..3000).map(|i| format!("usr/share/doc/{i}")).collect();
    members.extend(links.iter().map(|name| Put::Link(name, &target)));
    let early = tar(&members);
    let status: String = (0..100).map(|i| stanza(&format!("p{i}"), "1")).collect();
    let late = tar(&[Put::File("var/lib/dpkg/status", status.as_bytes())]);
    let report = scan_with(&[&early, &late], &Limits { problems: 10_000, ..Limits::default() });
    assert_eq!(report.knowledge, Knowledge::Partial);
    let said = |p: &Problem| p.code == ProblemCode::Limit && p.path.as_deref() == Some("var/lib/dpkg/status");
    assert!(report.problems.iter().any(said), "{:?}", report.problems.last());
}

#[test]
fn the_largest_package_database_stays_within_memory() {
    let mut status = String::new();
    for i in 0..50_000 {
        let name = format!("{i:05}{}", "+".repeat(70));
        status.push_str(&format!("Package: {name}\nVersion: {}\nSource: {name}\n\n", "~".repeat(80)));
        if status.len() > 16 << 20 {
            break;
        }
    }
    status.truncate(16 << 20);
    let image =
        tar(&[Put::File("etc/os-release", OS_RELEASE), Put::File("var/lib/dpkg/status", status.as_bytes())]);
    drop(status);
    let layers = vec![layer(&image)];
    let (report, most) =
        peak(|| scan(Image { config: b"{}", layers }, &Limits::default(), &mut |_| {}).unwrap());
    assert!(report.packages.len() > 40_000);
    assert!(most < MOST_BYTES, "{most} bytes held");
}

#[test]
fn a_tiny_database_that_expands_stops_at_its_packages() {
    let status = "Package:a\nVersion:1\n\n".repeat(700_000);
    let image = tar(&[Put::File("var/lib/dpkg/status", status.as_bytes())]);
    let layers = vec![layer(&image)];
    let (report, most) =
        peak(|| scan(Image { config: b"{}", layers }, &Limits::default(), &mut |_| {}).unwrap());
    assert_eq!(report.knowledge, Knowledge::Partial);
    assert!(most < 128 << 20, "{most}");
}

#[test]
fn a_name_of_gigabytes_is_passed_over() {
    let mut pieces = 0u32;
    let source = made(move || {
        pieces += 1;
        match pieces {
            1 => Some(header("././@LongLink", 256 << 20, tar::EntryType::GNULongName)),
            2..=257 => Some(vec![b'a'; 1 << 20]),
            258 => Some(header("x", 0, tar::EntryType::Regular)),
            259 => Some(header("pax", 256 << 20, tar::EntryType::XHeader)),
            260..=515 => Some(vec![b'1'; 1 << 20]),
            516 => Some(header("y", 0, tar::EntryType::Regular)),
            _ => None,
        }
    });
    let (report, most) = between(unknown(1 << 40, source), &Limits::default());
    has(&report, ProblemCode::Path);
    assert!(most < 16 << 20, "{most}");
}

#[test]
fn an_oversized_database_costs_itself_alone() {
    let limits = Limits { file_bytes: 1000, ..Limits::default() };
    let hostile = tar(&[Put::File("var/lib/dpkg/status.d/big", stanza("big", "1").repeat(100).as_bytes())]);
    let (report, _) = between(layer(&hostile), &limits);
    has(&report, ProblemCode::Limit);
}

#[test]
fn paths_that_leave_the_image_are_not_taken() {
    let hostile = [
        header("../../var/lib/dpkg/status", 0, tar::EntryType::Regular),
        header("x/../var/lib/dpkg/status", 0, tar::EntryType::Regular),
        header("/../etc/os-release", 0, tar::EntryType::Symlink),
    ]
    .concat();
    let (report, _) = between(layer(&hostile), &Limits::default());
    has(&report, ProblemCode::Path);
    assert_eq!(report.distro.unwrap().id, "debian");
}

#[test]
fn links_in_circles_end() {
    let hostile = tar(&[
        Put::Link("var/lib/dpkg/status.d", "status.d"),
        Put::Link("lib", "usr/lib"),
        Put::Link("usr/lib", "../lib"),
    ]);
    let report = scan_tars(&[&GOOD, &hostile]);
    assert_eq!((report.packages.len(), report.knowledge), (1, Knowledge::Partial));
    assert!(report.problems.iter().any(|p| p.code == ProblemCode::Link));
}

/// Regression: a package database behind a link to a file that is read as one of another kind, or to a folder that is not looked
/// at, was not there, and the image complete beside another database.
#[test]
fn a_database_behind_a_link_to_something_else_is_a_problem() {
    let hidden = stanza("hidden", "1");
    for link in [
        Put::Link("var/lib/dpkg/status", "/usr/share/doc/x/copyright"),
        Put::Hard("var/lib/dpkg/status", "usr/share/doc/x/copyright"),
        Put::Link("var/lib/dpkg/status.d", "/opt/status.d"),
    ] {
        let image = tar(&[
            Put::File("lib/apk/db/installed", b"P:seen\nV:1-r0\n"),
            Put::File("usr/share/doc/x/copyright", hidden.as_bytes()),
            Put::File("opt/status.d/x", hidden.as_bytes()),
            link,
        ]);
        let report = scan_tars(&[&image]);
        assert_eq!((report.packages.len(), report.knowledge), (1, Knowledge::Partial));
        assert_eq!(report.problems.iter().map(|p| p.code).collect::<Vec<_>>(), [ProblemCode::Link]);
    }
}

#[test]
fn cut_and_damaged_layers_keep_what_came_before() {
    let inner = tar(&[
        Put::File("var/lib/dpkg/status.d/inner", stanza("inner", "1").as_bytes()),
        Put::File("filler", &[1; 5000]),
    ]);
    let (gz, zst) = (gzip(&inner), zstd(&inner));
    for whole in [&inner, &gz, &zst] {
        for cut in [3, whole.len() / 2, whole.len() - 1] {
            between(layer(&whole[..cut]), &Limits::default());
        }
        let mut damaged = whole.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 0xff;
        let mut hostile = layer(&damaged);
        hostile.descriptor = descriptor(whole);
        let (report, _) = between(hostile, &Limits::default());
        assert!(report.problems.iter().any(|p| p.layer == Some(1)));
    }
    let mut late = inner.clone();
    late[1024..1536].fill(9);
    let (report, _) = between(layer(&late), &Limits::default());
    has(&report, ProblemCode::Archive);
    assert!(report.packages.iter().any(|p| p.name == "inner"));
}

#[test]
fn an_endless_pipe_stops_at_the_declared_size() {
    let (report, _) = between(unknown(10_000, io::repeat(0)), &Limits::default());
    has(&report, ProblemCode::SizeMismatch);
}

#[test]
fn problems_are_bounded_too() {
    let mut hostile = Vec::new();
    for i in 0..1000 {
        hostile.extend(header(&format!("../{i}"), 0, tar::EntryType::Regular));
    }
    let report = scan_tars(&[&hostile]);
    assert_eq!(report.problems.len(), 100);
    assert!(report.problems_dropped >= 900);
}

proptest! {
    /// Decompressors and archive reader together, on streams that are damaged somewhere or only begin as they should.
    #[test]
    fn damaged_streams_end(kind in 0usize..3, at in 0usize..4096, change in proptest::collection::vec(any::<u8>(), 1..64)) {
        let mut stored = match kind {
            0 => GOOD.clone(),
            1 => gzip(&GOOD),
            _ => zstd(&GOOD),
        };
        let at = at % stored.len();
        let end = (at + change.len()).min(stored.len());
        stored[at..end].copy_from_slice(&change[..end - at]);
        let layers = vec![layer(&stored), layer(&LATER)];
        let report = scan(Image { config: b"{}", layers }, &Limits::default(), &mut |_| {}).unwrap();
        prop_assert!(report.packages.iter().any(|p| p.name == "later"));
    }
}
