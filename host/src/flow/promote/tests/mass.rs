//! Many judgements: what is due, and what has lost its tags.

use std::sync::Arc;

use tempfile::TempDir;
use wharf_oci::Target;
use wharf_store::{Model, Store};

use super::case::{Case, Scans, does, stage_of};
use super::guests::marked;
use crate::access::Principal;
use crate::event::Kind;
use crate::flow;
use crate::flow::promote::mass;
use crate::jobs::{self, Queue};
use crate::promote::Verdict;
use crate::promote::standing::{self, Place, Standing};

async fn judgements(case: &Case) -> u64 {
    let live = jobs::live(&case.app.store).await.unwrap();
    live.into_iter().find(|(queue, _)| *queue == Queue::Judge).unwrap().1
}

/// Regression: a hundred places that could not be judged kept all others from it.
#[tokio::test]
async fn what_is_due_behind_the_first_page_is_asked_for_too() {
    let store = Store::new(Arc::new(Model::default()));
    let case = Case::over(Arc::new(TempDir::new().unwrap()), store, Scans::default());
    let due = &Standing {
        verdict: Verdict::Hold,
        decision: 1,
        tag_revision: 1,
        binding_revision: 1,
        fingerprint: String::new(),
        promoted: false,
        images: Vec::new(),
        at_ms: Some(1),
    };
    for n in 0..250 {
        let place = &Place {
            binding: "aged".to_owned(),
            repository: "dev/app".parse().unwrap(),
            tag: format!("v{n}").parse().unwrap(),
        };
        let put = async |mut tx| standing::put(&mut tx, place, None, due);
        case.app.store.act(put).await.unwrap();
    }
    let mut place = None;
    for (asked, all) in [(100, 100), (100, 200), (50, 250), (100, 250)] {
        assert_eq!(jobs::ask_due(&case.app, &mut place).await.unwrap(), asked);
        assert_eq!(judgements(&case).await, all);
    }
}

/// Regression: a manifest that was deleted with ten thousand tags made as many jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_goes_with_many_tags_is_forgotten_by_one_job() {
    const TAGS: usize = 40;
    let mut case = Case::new().await;
    case.put_in_force("guest", &marked(1)).await;
    case.bind("rejects", "dev/**", "qa/{name}", does("mark")).await;
    let mut digest = None;
    for n in 0..TAGS {
        digest = Some(case.push_unscanned(&format!("dev/app:v{n}"), "x").await);
    }
    case.push_unscanned("dev/app:other", "y").await;
    case.until_idle().await;
    let stands = async |case: &Case| {
        let places = standing::of_binding(&case.app.store, "rejects", None, 100).await.unwrap();
        places.places.into_iter().map(|place| place.tag.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(stands(&case).await.len(), TAGS + 1);
    let (admin, repository) = (Principal::user("admin"), stage_of("dev/app:1").repository);
    let target = Target::Digest(digest.unwrap());
    flow::delete::target(&case.app, &admin, &repository, &target).await.unwrap();
    case.until_idle().await;
    assert_eq!(stands(&case).await, ["other"]);
    let told = case.events(|kind| matches!(kind, Kind::TagDeleted { hidden: true, .. })).await;
    assert_eq!(told.len(), TAGS, "each tag is told of");
    assert_eq!(judgements(&case).await, 0);
    case.stop().await;
}

/// Regression: the names of all repositories were read for a binding over a few of them.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_read_only_where_a_binding_begins() {
    let mut case = Case::new().await;
    case.push_unscanned("dev/app:1", "x").await;
    for n in 0..150 {
        case.push_unscanned(&format!("a/{n}:1"), "x").await;
    }
    case.bind("rejects", "dev/*", "qa/{name}", does("list")).await;
    case.until_idle().await;
    let mut portions = Vec::new();
    let mut next = mass::by_binding(&case.app, "rejects", None, None).await.unwrap();
    while let Some(at) = next {
        next = mass::by_binding(&case.app, "rejects", Some(&at), None).await.unwrap();
        portions.push(at);
    }
    assert_eq!(portions, ["tags|dev/app|", "standing|rejects|"]);
    case.stop().await;
}
