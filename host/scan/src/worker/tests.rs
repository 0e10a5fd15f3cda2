use proptest::prelude::*;
use wharf_oci::Descriptor;

use super::*;
use crate::testing::*;
use crate::{Knowledge, ProblemCode, Report};

/// `None` is not sent, `Some(Err)` is lost on the way.
type Sent<'a> = (Descriptor, Option<Result<&'a [u8], &'a str>>);

/// A whole request.
fn request(config: &[u8], layers: &[Sent<'_>]) -> Vec<u8> {
    let announced = layers.iter().map(|(d, sent)| (d, sent.is_some()));
    let mut out = Request::open(&Limits::default(), config, announced).unwrap();
    for (_, sent) in layers {
        match sent {
            None => {}
            Some(Ok(bytes)) => {
                for chunk in bytes.chunks(1000) {
                    out.extend(Request::chunk_head(chunk.len()));
                    out.extend(chunk);
                }
                out.extend(Request::layer_end());
            }
            Some(Err(why)) => out.extend(Request::layer_lost(why).unwrap()),
        }
    }
    out
}

fn answers(request: &[u8]) -> Vec<Answer> {
    let mut output = Vec::new();
    serve(request, &mut output).unwrap();
    // In the pieces of a slow pipe.
    let mut decoder = Answers::default();
    output.chunks(7).flat_map(|piece| decoder.feed(piece).unwrap()).collect()
}

fn report(request: &[u8]) -> Report {
    match answers(request).pop() {
        Some(Answer::Report(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn image(name: &str) -> Vec<u8> {
    tar(&[
        Put::File("etc/os-release", OS_RELEASE),
        Put::File("var/lib/dpkg/status", stanza(name, "1").as_bytes()),
    ])
}

#[test]
fn a_scan_through_the_pipe_is_the_same_scan() {
    let (a, b) = (image("a"), gzip(&image("b")));
    let config = config(&[&a, &image("b")]);
    let through =
        report(&request(&config, &[(descriptor(&a), Some(Ok(&a))), (descriptor(&b), Some(Ok(&b)))]));
    let direct =
        scan(Image { config: &config, layers: vec![layer(&a), layer(&b)] }, &Limits::default(), &mut |_| {});
    assert_eq!(through, direct.unwrap());
    assert_eq!(through.knowledge, Knowledge::Complete);
}

#[test]
fn layers_not_sent_or_lost_cost_themselves_alone() {
    let a = image("a");
    let config = config(&[&a, &a, &a]);
    let layers = [
        (descriptor(&a), None),
        (descriptor(&a), Some(Err("disk on fire"))),
        (descriptor(&a), Some(Ok(a.as_slice()))),
    ];
    let report = report(&request(&config, &layers));
    let codes: Vec<_> = report.problems.iter().map(|p| p.code).collect();
    assert_eq!(codes, [ProblemCode::UnsupportedLayer, ProblemCode::Unreadable]);
    assert!(report.problems[1].message.contains("disk on fire"));
    assert_eq!((report.packages.len(), report.knowledge), (1, Knowledge::Partial));
}

#[test]
fn what_a_scan_leaves_of_a_layer_does_not_reach_the_next() {
    let (long, a) = (vec![b'x'; 50_000], image("a"));
    let config = config(&[&long, &a]);
    let mut short = descriptor(&long);
    short.size = 10;
    let report = report(&request(&config, &[(short, Some(Ok(&long))), (descriptor(&a), Some(Ok(&a)))]));
    assert_eq!(report.packages.len(), 1);
}

#[test]
fn progress_comes_before_the_report() {
    let a = image("a");
    let all = answers(&request(&config(&[&a]), &[(descriptor(&a), Some(Ok(&a)))]));
    assert!(all.len() >= 3);
    assert!(matches!(all[0], Answer::Progress(crate::Progress { layer: 0, of: 1, .. })));
}

#[test]
fn an_image_that_cannot_be_scanned_is_answered() {
    let all = answers(&request(b"not json", &[]));
    assert!(matches!(&all[..], [Answer::Failed(why)] if why.contains("configuration")), "{all:?}");
}

#[test]
fn a_cut_pipe_is_an_error_or_a_partial_report_and_ends() {
    let a = image("a");
    let whole = request(&config(&[&a]), &[(descriptor(&a), Some(Ok(&a)))]);
    for cut in 0..whole.len() {
        let mut output = Vec::new();
        if serve(&whole[..cut], &mut output).is_ok() {
            let last = Answers::default().feed(&output).unwrap().pop();
            let Some(Answer::Report(report)) = last else { panic!("{last:?}") };
            assert_eq!(report.knowledge, Knowledge::Partial, "cut at {cut}");
        }
    }
}

#[test]
fn frames_over_their_bound_are_refused_before_they_are_read() {
    let huge = [&u32::MAX.to_le_bytes()[..], &[3]].concat();
    assert!(matches!(serve(&huge[..], Vec::new()), Err(WorkerError::Request(FrameError::Length { .. }))));
    assert!(matches!(Answers::default().feed(&huge), Err(FrameError::Length { .. })));
    assert!(matches!(Answers::default().feed(&[0, 0, 0, 0, 99]), Err(FrameError::Kind(99))));
    assert!(matches!(Answers::default().feed(&[0, 0, 0, 0, 4]), Err(FrameError::Unexpected("layer-end"))));
}

#[test]
fn a_report_of_another_version_is_refused() {
    let mut output = Vec::new();
    let json = br#"{"version":2,"scanner":"x","image":{"os":"","architecture":""},"distro":null,"knowledge":"complete","layers":[],"packages":[],"problems":[],"problems_dropped":0}"#;
    frame::write(&mut output, &Frame::Piece(json.to_vec())).unwrap();
    frame::write(&mut output, &Frame::Done).unwrap();
    assert!(matches!(Answers::default().feed(&output), Err(FrameError::Version { found: 2, .. })));
}

proptest! {
    #[test]
    fn neither_side_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..22) {
        let framed = [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &[kind], &bytes].concat();
        let _ = serve(&bytes[..], Vec::new());
        let _ = serve(&framed[..], Vec::new());
        let _ = Answers::default().feed(&bytes);
        let _ = Answers::default().feed(&framed);
    }
}
