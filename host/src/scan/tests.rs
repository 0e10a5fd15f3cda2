//! What becomes of a scan whose worker does not do its work. Workers that do are driven by the integration tests, through
//! the real binary.

use wharf_oci::Digest;

use super::*;

fn scanner(program: &str, settings: Settings) -> Scanner {
    Scanner { program: program.into(), ..Scanner::new(settings) }
}

fn layer() -> Input {
    let bytes = vec![7; 3 << 20];
    let media_type = "application/vnd.oci.image.layer.v1.tar".parse().unwrap();
    let descriptor = wharf_oci::Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
    Input::of_layer(wharf_scan::Layer {
        descriptor,
        open: Some(Box::new(move || Ok(Box::new(std::io::Cursor::new(bytes))))),
    })
}

async fn failure(scanner: &Scanner, layers: Vec<Input>) -> ScanFailure {
    scanner.scan(b"{}", layers, |_| {}).await.unwrap_err()
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_worth_another_try() {
    let error = failure(&scanner("/nonexistent/wharf", Settings::default()), vec![]).await;
    assert!(matches!(error, ScanFailure::Start(_)) && !error.is_final(), "{error}");
}

#[tokio::test]
async fn a_worker_that_ends_without_an_answer_has_crashed() {
    let error = failure(&scanner("/bin/false", Settings::default()), vec![layer()]).await;
    assert!(error.is_final());
    assert_eq!(error.to_string(), "the scan worker ended with status 1 and no answer");
}

#[tokio::test]
async fn a_worker_that_talks_nonsense_is_refused() {
    // It repeats its arguments, which are no frames.
    let error = failure(&scanner("/bin/echo", Settings::default()), vec![layer()]).await;
    assert!(matches!(error, ScanFailure::Answer(_)), "{error}");
}

/// A program that does what `script` says.
fn program(script: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("source"), folder.path().join("worker"));
    std::fs::write(&source, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Not written here: what another test starts at that moment would hold it open for writing, and it could not be run.
    let install = std::process::Command::new("install").args([&source, &program]).status().unwrap();
    assert!(install.success());
    let path = program.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn a_worker_that_hangs_is_ended_and_frees_its_place() {
    let (_folder, program) = program("exec /bin/sleep 1000");
    let settings = Settings { wall_s: 1, workers: 1, ..Settings::default() };
    let scanner = scanner(&program, settings);
    for _ in 0..2 {
        let error = failure(&scanner, vec![layer()]).await;
        assert!(matches!(error, ScanFailure::Time(1)) && error.is_final(), "{error}");
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_is_told_with_its_last_words() {
    let (_folder, program) = program("echo out of luck >&2; kill -ABRT $$");
    let error = failure(&scanner(&program, Settings::default()), vec![layer()]).await;
    assert_eq!(error.to_string(), "the scan worker aborted: out of luck");
}

#[tokio::test]
async fn a_layer_that_cannot_be_read_is_worth_another_try() {
    let descriptor = layer().descriptor;
    let broken = Input::of_stream(descriptor, async { Err(std::io::Error::other("disk on fire")) });
    let (_folder, program) = program("exec /bin/cat >/dev/null");
    let error = failure(&scanner(&program, Settings::default()), vec![layer(), broken]).await;
    assert!(matches!(error, ScanFailure::Layer { .. }) && !error.is_final(), "{error}");
    assert!(error.to_string().ends_with("cannot be read here: disk on fire"), "{error}");
}
