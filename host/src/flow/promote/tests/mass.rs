//! Many judgements: what is due.

use std::sync::Arc;

use tempfile::TempDir;
use wharf_store::{Model, Store};

use super::case::{Case, Scans};
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
