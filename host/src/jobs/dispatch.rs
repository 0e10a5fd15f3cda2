//! Which event leads to which work, and which flow does it.

use std::sync::Arc;
use std::time::Duration;

use wharf_oci::{Digest, RepoName};
use wharf_store::{Key, StoreError};

use super::queue::Work;
use super::run::{Failure, Handler, Running};
use super::schedule::Every;
use crate::App;
use crate::event::{Kind, Recorded};
use crate::flow::promote::{self, judge, mass};
use crate::flow::{collect, delete, retention, scan_image, scrub};

/// Jobs that one commit makes of an index with any number of platforms. Each is three operations: its row, its count, the dead
/// one that it replaces.
const JOBS_A_COMMIT: usize = 256;

/// Work that comes back without an event.
pub fn schedule() -> Vec<Every> {
    vec![
        Every { work: Work::Collect, period: Duration::from_secs(3600) },
        Every { work: Work::Trim, period: Duration::from_secs(6 * 3600) },
        Every { work: Work::Scrub, period: Duration::from_secs(24 * 3600) },
    ]
}

/// What follows from an event.
pub fn route(recorded: &Recorded) -> Vec<Work> {
    match &recorded.event.kind {
        Kind::ImagePushed { repository, digest, tag, subject, .. } => {
            let scan = scan_in(repository, digest);
            let judge = tag.clone().map(|tag| Work::Judge { repository: repository.clone(), tag });
            let said = subject.iter().flat_map(|subject| said_of(subject, repository, digest));
            [scan].into_iter().chain(judge).chain(said).collect()
        }
        Kind::ImagePromoted { from, to, digest, .. } => {
            // What was said of the image while it was on its way has seen no promotion, and what came along with it may be
            // missing further down, where the image went before.
            let judge = Work::Judge { repository: to.repository.clone(), tag: to.tag.clone() };
            // What it has long been scanned for elsewhere, an index of the target may have waited to come.
            let scan = scan_in(&to.repository, digest);
            vec![scan, judge, follow(&from.repository, digest), follow(&to.repository, digest)]
        }
        Kind::ReferrerPromoted { to, digest, subject, .. } => {
            [scan_in(to, digest)].into_iter().chain(said_of(subject, to, digest)).collect()
        }
        Kind::JudgementAsked { repository, tag, digest } => {
            let scan = digest.as_ref().map(|digest| scan_in(repository, digest));
            let judge = Work::Judge { repository: repository.clone(), tag: tag.clone() };
            // Where it stands already, what was said of it while the binding was off is missing.
            let said = digest.as_ref().map(|digest| follow(repository, digest));
            scan.into_iter().chain([judge]).chain(said).collect()
        }
        // Of those there may be any number: how they stood is forgotten since their manifest was deleted.
        Kind::TagDeleted { hidden: true, .. } => Vec::new(),
        Kind::TagDeleted { repository, tag, .. } => {
            vec![Work::Judge { repository: repository.clone(), tag: tag.clone() }]
        }
        Kind::ManifestDeleted { repository, tags_left: true, .. } => {
            let (repository, from) = (repository.clone(), None);
            vec![
                Work::Untag { repository: repository.clone(), from: None },
                Work::Forget { repository, from },
            ]
        }
        Kind::ImageScanned { repository, digest, .. } => {
            vec![rejudge(digest, None, Some(repository.clone()))]
        }
        Kind::FindingsChanged { digest, .. } => vec![rejudge(digest, None, None)],
        Kind::VulnerabilityDataImported { .. } => vec![Work::Rematch { from: None }],
        Kind::BindingChanged { binding } | Kind::BindingRemoved { binding } => {
            vec![Work::RejudgeBinding { binding: binding.clone(), from: None }]
        }
        Kind::PluginLoaded { plugin, .. } | Kind::PluginRemoved { plugin } => {
            vec![Work::RejudgePlugin { plugin: plugin.clone(), from: None }]
        }
        _ => Vec::new(),
    }
}

/// What follows from a new referrer: it goes where its subject went, and whoever waits for one in its repository asks again.
fn said_of(subject: &Digest, repository: &RepoName, digest: &Digest) -> [Work; 2] {
    [follow(repository, digest), rejudge(subject, Some(repository.clone()), None)]
}

fn rejudge(digest: &Digest, repository: Option<RepoName>, scanned_in: Option<RepoName>) -> Work {
    Work::RejudgeImage { digest: digest.clone(), repository, scanned_in, from: None }
}

fn scan_in(repository: &RepoName, digest: &Digest) -> Work {
    Work::Scan { repository: repository.clone(), digest: digest.clone() }
}

fn follow(repository: &RepoName, digest: &Digest) -> Work {
    Work::Follow { repository: repository.clone(), digest: digest.clone() }
}

/// Does the work of jobs.
pub fn handler(app: App) -> Handler {
    Arc::new(move |job| {
        let app = app.clone();
        Box::pin(async move { work(&app, &job).await })
    })
}

async fn work(app: &App, job: &Running) -> Result<(), Failure> {
    match job.work() {
        Work::Judge { repository, tag } => {
            judge::tag(app, repository, tag, job.cause()).await.map(drop).map_err(Failure::new)
        }
        Work::Scan { repository, digest } => scan(app, repository, digest, job).await,
        Work::Follow { repository, digest } => {
            promote::follow::manifest(app, repository, digest, job.stop()).await.map_err(Failure::new)
        }
        Work::Collect => collect::run(app, app.now_ms()).await.map(drop).map_err(Failure::new),
        Work::Trim => retention::run(app, app.now_ms(), job.stop()).await.map(drop).map_err(Failure::new),
        Work::Scrub => scrub::run(app, job.stop()).await.map(drop).map_err(Failure::new),
        _ => mass_work(app, job).await,
    }
}

async fn scan(app: &App, repository: &RepoName, digest: &Digest, job: &Running) -> Result<(), Failure> {
    let scanning = scan_image::image(app, repository, digest, job.is_last());
    let platforms = &tokio::select! {
        () = job.stop().cancelled() => return Err(Failure::new("it was stopped")),
        scanned = scanning => scanned.map_err(Failure::new)?,
    };
    for platforms in platforms.chunks(JOBS_A_COMMIT) {
        let enqueue = app.store.act(|mut tx| async move {
            for digest in platforms {
                super::row::enqueue_once(&mut tx, scan_in(repository, digest)).await?;
            }
            Ok::<_, StoreError>(())
        });
        enqueue.await?;
    }
    Ok(())
}

/// Does mass work portion by portion, keeping its place after each.
async fn mass_work(app: &App, job: &Running) -> Result<(), Failure> {
    let cause = job.cause();
    let mut work = job.work().clone();
    loop {
        let next = match &work {
            Work::RejudgeBinding { binding, from } => {
                mass::by_binding(app, binding, from.as_deref(), cause).await
            }
            Work::RejudgePlugin { plugin, from } => {
                mass::by_plugin(app, plugin, from.as_deref(), cause).await
            }
            Work::RejudgeImage { digest, repository, from, .. } => {
                mass::by_image(app, digest.as_str(), repository.as_ref(), from.as_deref(), cause).await
            }
            Work::Forget { repository, from } => mass::forget_gone(app, repository, from.as_deref()).await,
            Work::Rematch { from } => {
                let next = scan_image::rematch(app, from.as_deref()).await.map_err(Failure::new)?;
                Ok(next)
            }
            Work::Untag { repository, from } => {
                let next = delete::untag(app, repository, from.as_deref()).await.map_err(Failure::new)?;
                Ok(next)
            }
            _ => return Ok(()),
        };
        let Some(place) = next.map_err(Failure::new)? else { return Ok(()) };
        work = work.going_on(Some(place));
        job.save(&work).await?;
        if job.stop().is_cancelled() {
            return Err(Failure::new("it was stopped on the way"));
        }
    }
}

/// Asks for a collection before its hour, where none waits or runs.
pub async fn ask_collection(app: &App) -> Result<(), StoreError> {
    let store = app.store.background();
    store.act(|mut tx| async move { super::row::enqueue_once(&mut tx, Work::Collect).await }).await?;
    Ok(())
}

/// Asks for a page of the judgements that an age rule wants now, from behind `place`, and leaves there where the next call
/// goes on: past the end it begins again. Returns how many.
pub async fn ask_due(app: &App, place: &mut Option<Key>) -> Result<usize, StoreError> {
    let (due, next) = &mass::due(app, place.as_ref()).await?;
    app.store
        .act(|mut tx| async move {
            for (repository, tag) in due {
                let work = Work::Judge { repository: repository.clone(), tag: tag.clone() };
                super::row::enqueue_once(&mut tx, work).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    place.clone_from(next);
    Ok(due.len())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jobs::Queue;

    const DIGEST: &str = "sha256:4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f5312ab34cd4f53";

    fn works(event: &Value) -> Vec<Work> {
        let mut recorded = json!({"id": "1.0", "at_ms": 1, "by": "ann"});
        recorded.as_object_mut().unwrap().extend(event.as_object().unwrap().clone());
        route(&serde_json::from_value(recorded).unwrap())
    }

    fn check(event: Value, expected: &[&str]) {
        let works = works(&event);
        let names = works.iter().map(|work| format!("{} {}", work.queue(), work.subject()));
        let names: Vec<String> = names.map(|name| name.replace(DIGEST, "D")).collect();
        assert_eq!(names, expected, "{event}");
    }

    #[test]
    fn each_event_leads_to_its_work() {
        let stage = |repository| json!({"repository": repository, "tag": "1"});
        let push = json!({"kind": "image-pushed", "repository": "dev/app", "digest": DIGEST, "tag": "1"});
        check(push, &["scan dev/app@D", "judge dev/app:1"]);
        check(
            json!({"kind": "image-pushed", "repository": "dev/app", "digest": DIGEST, "subject": DIGEST}),
            &["scan dev/app@D", "follow dev/app@D", "rejudge image dev/app@D"],
        );
        check(
            json!({"kind": "referrer-promoted", "from": "dev/app", "to": "qa/app", "digest": DIGEST, "subject": DIGEST, "decision": 1}),
            &["scan qa/app@D", "follow qa/app@D", "rejudge image qa/app@D"],
        );
        check(
            json!({"kind": "image-promoted", "from": stage("dev/app"), "to": stage("qa/app"), "digest": DIGEST, "lineage": [], "decision": 1}),
            &["scan qa/app@D", "judge qa/app:1", "follow dev/app@D", "follow qa/app@D"],
        );
        check(
            json!({"kind": "manifest-deleted", "repository": "dev/app", "digest": DIGEST, "tags-left": true}),
            &["housekeeping untag dev/app", "rejudge forget dev/app"],
        );
        let deleted = json!({"kind": "tag-deleted", "repository": "dev/app", "tag": "1", "digest": DIGEST});
        check(deleted, &["judge dev/app:1"]);
        check(
            json!({"kind": "tag-deleted", "repository": "dev/app", "tag": "1", "digest": DIGEST, "hidden": true}),
            &[],
        );
    }

    /// Regression: one pusher's many scans and signatures delayed everybody's judgement.
    #[test]
    fn what_follows_from_a_repository_takes_the_turn_of_its_namespace() {
        for event in [
            json!({"kind": "image-pushed", "repository": "dev/app", "digest": DIGEST, "tag": "1", "subject": DIGEST}),
            json!({"kind": "image-scanned", "repository": "dev/app", "digest": DIGEST, "scan": "complete", "packages": 1, "findings": 0}),
        ] {
            let works = works(&event);
            assert!(works.iter().any(|work| work.queue() == Queue::Rejudge), "{event}");
            assert!(works.iter().all(|work| work.namespace() == "dev"), "{works:?}");
        }
    }
}
