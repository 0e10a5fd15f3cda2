use std::sync::atomic::Ordering;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::writer::GATHERED_BYTES_MAX;
use super::*;
use bytes::Bytes;

fn open(dir: &tempfile::TempDir) -> Blobs {
    Blobs::open_dir(dir.path(), 0).unwrap()
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("sha256:{}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

async fn read(blobs: &Blobs, id: &BlobId, range: std::ops::Range<u64>) -> Vec<u8> {
    let reader = blobs.open(id).await.unwrap();
    reader.bytes(range).await.unwrap().into()
}

/// An upload of so many bytes, to be resumed.
async fn suspended(blobs: &Blobs, bytes: Bytes) -> BlobId {
    let mut writer = blobs.create("dev/app", false).await.unwrap();
    let id = writer.id().clone();
    writer.write(bytes).await.unwrap();
    writer.suspend().await.unwrap();
    id
}

#[tokio::test]
async fn a_blob_comes_back_whole_and_in_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let data = bytes(700_001);
    let mut writer = blobs.create("dev/app", false).await.unwrap();
    for chunk in data.chunks(10_007) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let done = writer.finish(false).await.unwrap();
    assert_eq!((done.size, &done.sha256, &done.sha512), (700_001, &sha256(&data), &None));
    assert_eq!(done.stored, Stored::File(done.id.clone()));
    assert_eq!(read(&blobs, &done.id, 0..u64::MAX).await, data);
    assert_eq!(read(&blobs, &done.id, 65_000..65_600).await, data[65_000..65_600]);
    assert_eq!(read(&blobs, &done.id, 700_001..800_000).await, b"");
}

#[tokio::test]
async fn a_small_blob_needs_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    for len in [0, 1, INLINE_MAX] {
        let mut writer = blobs.create("dev/app", false).await.unwrap();
        let id = writer.id().clone();
        writer.write(bytes(len)).await.unwrap();
        assert_eq!(writer.suspend().await.unwrap(), len as u64);
        let done = blobs.resume(&id).await.unwrap().finish(true).await.unwrap();
        assert_eq!(done.stored, Stored::Inline(bytes(len)));
        assert_eq!(done.sha256, sha256(&bytes(len)));
        assert!(done.sha512.is_some());
        assert!(matches!(blobs.open(&id).await, Err(BlobError::NotFound(_))));
    }
}

#[tokio::test]
async fn an_upload_goes_on_in_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = bytes(300_000);
    let mut writer = open(&dir).create("dev/app", true).await.unwrap();
    let id = writer.id().clone();
    writer.write(data.slice(..1000)).await.unwrap();
    writer.suspend().await.unwrap();
    for (from, to) in [(1000, 5000), (5000, 5000), (5000, 200_000), (200_000, 300_000)] {
        let blobs = open(&dir);
        assert_eq!(blobs.upload(&id).await.unwrap(), Upload { owner: "dev/app".into(), offset: from as u64 });
        let mut writer = blobs.resume(&id).await.unwrap();
        writer.write(data.slice(from..to)).await.unwrap();
        writer.suspend().await.unwrap();
    }
    let done = open(&dir).resume(&id).await.unwrap().finish(true).await.unwrap();
    assert_eq!(done.sha256, sha256(&data));
    assert!(done.sha512.is_some());
    assert_eq!(read(&open(&dir), &id, 0..u64::MAX).await, data);
    assert!(matches!(open(&dir).upload(&id).await, Err(BlobError::NotFound(_))));
}

#[tokio::test]
async fn a_finished_upload_is_not_continued_even_if_its_state_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let id = suspended(&blobs, bytes(100_000)).await;
    let sidecar = dir.path().join("uploads").join(id.as_str());
    let state = std::fs::read(&sidecar).unwrap();
    blobs.resume(&id).await.unwrap().finish(false).await.unwrap();
    std::fs::write(&sidecar, state).unwrap();
    assert!(matches!(blobs.resume(&id).await, Err(BlobError::NotFound(_))));
    assert_eq!(read(&blobs, &id, 0..u64::MAX).await, bytes(100_000));
}

/// After a power loss the state may promise more than the disk holds; the digest must tell.
#[tokio::test]
async fn a_state_of_another_boot_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let id = suspended(&blobs, bytes(100_000)).await;
    let path = dir.path().join("blobs").join(id.file());
    let mut torn = bytes(90_000).to_vec();
    torn[50_000..].fill(0);
    std::fs::write(&path, &torn).unwrap();
    let sidecar = dir.path().join("uploads").join(id.as_str());
    let text = std::fs::read_to_string(&sidecar).unwrap();
    std::fs::write(&sidecar, text.replace(&sidecar::boot(), "another boot")).unwrap();

    assert_eq!(blobs.upload(&id).await.unwrap().offset, 90_000);
    let writer = blobs.resume(&id).await.unwrap();
    assert_eq!(writer.offset(), 90_000);
    assert_eq!(writer.finish(false).await.unwrap().sha256, sha256(&torn));
}

/// The state's hash was once believed of a file that had been cut, which was then filled up with zeros.
#[tokio::test]
async fn an_upload_whose_file_was_cut_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let id = suspended(&blobs, bytes(100_000)).await;
    std::fs::write(dir.path().join("blobs").join(id.file()), &bytes(100_000)[..90_000]).unwrap();
    assert!(matches!(blobs.resume(&id).await, Err(BlobError::NotFound(_))));
}

#[tokio::test]
async fn what_the_first_request_wrote_before_a_crash_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let data = bytes(600_000);
    let writer = blobs.create("dev/app", false).await.unwrap();
    let id = writer.id().clone();
    writer.suspend().await.unwrap();
    let mut writer = blobs.resume(&id).await.unwrap();
    writer.write(bytes(400_000)).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    let mut writer = blobs.resume(&id).await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(data.clone()).await.unwrap();
    assert_eq!(writer.finish(false).await.unwrap().sha256, sha256(&data));
}

#[tokio::test]
async fn what_an_interrupted_request_wrote_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let data = bytes(600_000);
    let id = suspended(&blobs, data.slice(..10_000)).await;
    let mut writer = blobs.resume(&id).await.unwrap();
    assert!(matches!(blobs.resume(&id).await, Err(BlobError::InUse(_))));
    writer.write(bytes(400_000)).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    let mut writer = blobs.resume(&id).await.unwrap();
    assert_eq!(writer.offset(), 10_000);
    writer.write(data.slice(10_000..)).await.unwrap();
    assert_eq!(writer.finish(false).await.unwrap().sha256, sha256(&data));
}

#[tokio::test]
async fn nothing_stays_of_what_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let count = || async {
        let mut files = 0;
        for digit in 0..16 {
            files += blobs.list(digit).await.unwrap().len();
        }
        files
    };
    let mut writer = blobs.create("dev/app", false).await.unwrap();
    writer.write(bytes(300_000)).await.unwrap();
    writer.cancel().await.unwrap();
    assert_eq!(count().await, 0);

    let mut writer = blobs.create("dev/app", false).await.unwrap();
    writer.write(bytes(300_000)).await.unwrap();
    let done = writer.finish(false).await.unwrap();
    assert_eq!(count().await, 1);
    done.discard().await.unwrap();
    assert_eq!(count().await, 0);

    let mut writer = blobs.create("dev/app", false).await.unwrap();
    writer.write(bytes(300_000)).await.unwrap();
    drop(writer);
    while count().await > 0 {
        tokio::task::yield_now().await;
    }
}

/// Regression: clients that sent most of a piece each and stalled held it in memory, however many they were.
#[tokio::test]
async fn what_stalled_uploads_hold_is_bounded_over_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(&dir);
    let gathered = || blobs.0.gathered_bytes.load(Ordering::Relaxed);
    let (part, mut writers) = (bytes(400_000), Vec::new());
    while writers.len() * part.len() < 2 * GATHERED_BYTES_MAX {
        let mut writer = blobs.create("dev/app", false).await.unwrap();
        writer.write(part.clone()).await.unwrap();
        writers.push(writer);
    }
    while gathered() > GATHERED_BYTES_MAX {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let within = GATHERED_BYTES_MAX / part.len();
    assert!(gathered() >= within * part.len(), "while there is room, nothing is written in small pieces");
    // One of each kind goes on and is whole.
    for mut writer in [writers.pop().unwrap(), writers.swap_remove(0)] {
        writer.write(part.clone()).await.unwrap();
        let done = writer.finish(false).await.unwrap();
        assert_eq!(done.sha256, sha256(&[part.clone(), part.clone()].concat()));
    }
    drop(writers);
    while gathered() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_disk_below_the_watermark_takes_no_upload() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open_dir(dir.path(), u64::MAX).unwrap();
    assert!(matches!(blobs.create("dev/app", false).await, Err(BlobError::Full { .. })));
}

#[tokio::test]
async fn nobody_else_sees_the_bytes_and_half_written_states_go() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(&dir).create("dev/app", false).await.unwrap();
    writer.write(bytes(5000)).await.unwrap();
    let id = writer.id().clone();
    writer.suspend().await.unwrap();
    let half = dir.path().join("uploads").join(format!("{id}.next"));
    std::fs::write(&half, "half").unwrap();
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("blobs"), mode("uploads"), mode(&format!("blobs/{}", id.file()))),
        (0o700, 0o700, 0o600)
    );
    open(&dir).resume(&id).await.unwrap().finish(false).await.unwrap();
    assert_eq!(mode(&format!("blobs/{}", id.file())), 0o400);
    assert!(!half.exists());
}
