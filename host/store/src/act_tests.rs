use std::sync::Arc;
use std::time::Duration;

use crate::{
    Commit, Counter, Expect, Key, KeyRange, ManualClock, Model, Op, Rev, Space, Store, StoreError, Tx,
    appended, key,
};

fn store() -> Store {
    Store::new(Arc::new(Model::default()))
}

fn tag(name: &str) -> Key {
    key(Space::Tag, &["dev/app", name])
}

async fn write(store: &Store, k: &Key, val: &'static str) -> Rev {
    let put = Op::Put { key: k.clone(), val: val.into(), ttl: None };
    store.commit(Commit { ops: vec![put], ..Commit::default() }).await.unwrap().rev
}

async fn point(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let known = tx.get(&tag(name)).await?.is_some();
    tx.put_value(&tag(name), name)?;
    Ok(known)
}

async fn flow(store: &Store, names: &[String]) -> Result<usize, StoreError> {
    let first = names[0].clone();
    let act = store.act(|mut tx| {
        let first = &first;
        async move {
            let mut known = usize::from(point(&mut tx, first).await?);
            for name in names {
                known += usize::from(point(&mut tx, name).await?);
            }
            tokio::task::yield_now().await;
            Ok::<_, StoreError>(known)
        }
    });
    Ok(act.await?.0)
}

/// The future of an act over borrowed arguments can move between threads, as handlers need.
#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_send() {
    let store = store();
    let names = vec!["a".to_string(), "b".to_string()];
    let task = tokio::spawn(async move { flow(&store, &names).await });
    assert_eq!(task.await.unwrap(), Ok(1));
}

#[tokio::test]
async fn an_act_runs_again_when_what_it_read_changed() {
    let store = store();
    let mut runs = 0;
    let (seen, rev) = store
        .act(|mut tx| {
            runs += 1;
            let (run, store) = (runs, store.clone());
            async move {
                let seen = tx.get(&tag("1")).await?;
                if run == 1 {
                    write(&store, &tag("1"), "other").await;
                }
                tx.put(&tag("2"), "mine");
                Ok::<_, StoreError>(seen.map(|row| row.val))
            }
        })
        .await
        .unwrap();
    assert_eq!((runs, seen.as_deref(), rev), (2, Some(&b"other"[..]), Rev(2)));
}

/// Regression: an act that saw one row before and one after the same commit found nothing to do, and that stood.
#[tokio::test]
async fn an_act_that_writes_nothing_has_seen_one_moment() {
    let store = store();
    write(&store, &tag("1"), "x").await;
    let mut runs = 0;
    let (seen, rev) = store
        .act(|mut tx| {
            runs += 1;
            let (run, store) = (runs, store.clone());
            async move {
                let first = tx.get(&tag("1")).await?.is_some();
                if run == 1 {
                    let ops =
                        vec![Op::Delete(tag("1")), Op::Put { key: tag("2"), val: "x".into(), ttl: None }];
                    store.commit(Commit { ops, ..Commit::default() }).await?;
                }
                Ok::<_, StoreError>((first, tx.get(&tag("2")).await?.is_some()))
            }
        })
        .await
        .unwrap();
    assert_eq!((runs, seen, rev), (2, (false, true), Rev(2)));
}

#[tokio::test]
async fn an_act_gives_up_on_a_row_that_keeps_changing() {
    let store = store();
    let mut runs = 0;
    let act = store.act(|mut tx| {
        runs += 1;
        let store = store.clone();
        async move {
            tx.get(&tag("1")).await?;
            write(&store, &tag("1"), "other").await;
            tx.put(&tag("2"), "mine");
            Ok::<_, StoreError>(())
        }
    });
    assert_eq!(act.await, Err(StoreError::Conflict(tag("1"))));
    assert_eq!(runs, crate::ACT_TRIES);
    assert_eq!(store.get(&tag("2")).await, Ok(None));
}

#[tokio::test]
async fn peek_expects_nothing() {
    let store = store();
    let other = store.clone();
    let (_, rev) = store
        .act(|mut tx| {
            let other = other.clone();
            async move {
                tx.peek(&tag("1")).await?;
                tx.peek_scan(KeyRange::all(Space::Tag), 10).await?;
                write(&other, &tag("1"), "other").await;
                tx.put(&tag("2"), "mine");
                Ok::<_, StoreError>(())
            }
        })
        .await
        .unwrap();
    assert_eq!(rev, Rev(2));
}

#[tokio::test]
async fn a_scan_expects_what_it_covered_and_no_more() {
    let store = store();
    for name in ["a", "c", "e"] {
        write(&store, &tag(name), "x").await;
    }
    for (other, runs_expected) in [("b", 2), ("d", 1)] {
        let mut runs = 0;
        store
            .act(|mut tx| {
                runs += 1;
                let (run, store) = (runs, store.clone());
                async move {
                    let page = tx.scan(KeyRange::all(Space::Tag), 2).await?;
                    assert!(page.more);
                    if run == 1 {
                        write(&store, &tag(other), "new").await;
                    }
                    tx.put(&key(Space::Meta, &["x"]), "mine");
                    Ok::<_, StoreError>(())
                }
            })
            .await
            .unwrap();
        assert_eq!(runs, runs_expected, "a row `{other}` came");
    }
}

#[tokio::test]
async fn a_transaction_sees_its_own_writes() {
    let store = store();
    for name in ["a", "b", "c", "d"] {
        write(&store, &tag(name), "old").await;
    }
    store
        .act(|mut tx| async move {
            tx.delete(&tag("a"));
            tx.delete(&tag("b"));
            tx.put_ttl(&tag("bb"), "new", Duration::from_secs(1));
            tx.put(&tag("c"), "new");
            assert_eq!(tx.get(&tag("a")).await?, None);
            assert_eq!(tx.peek(&tag("c")).await?.unwrap().val, "new");
            let page = tx.scan(KeyRange::prefix(Space::Tag, &["dev/app"]), 2).await?;
            let names: Vec<_> = page.rows.iter().filter_map(|row| row.key.part(1)).collect();
            assert_eq!((names, page.more), (vec!["bb".to_string(), "c".to_string()], true));
            let rest = KeyRange::prefix(Space::Tag, &["dev/app"]).after(&tag("c"));
            let page = tx.peek_scan(rest, 2).await?;
            assert_eq!((page.rows.len(), page.more), (1, false));
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
}

/// A page that covered nothing once expected the whole range to be empty, and so conflicted for ever.
#[tokio::test]
async fn a_scan_for_no_rows_is_one_for_one_row() {
    let store = store();
    write(&store, &tag("a"), "x").await;
    let act = store.act(|mut tx| async move {
        let page = tx.scan(KeyRange::all(Space::Tag), 0).await?;
        tx.put(&key(Space::Meta, &["x"]), "mine");
        Ok::<_, StoreError>((page.rows.len(), page.more))
    });
    assert_eq!(act.await.unwrap().0, (1, false));
}

/// More than a page holds is read page by page, with every page expected.
#[tokio::test]
async fn all_rows_of_a_range_are_read_whatever_they_weigh() {
    let store = store();
    let all = KeyRange::prefix(Space::Tag, &["dev/app"]);
    for n in 0..7 {
        let val = vec![n; crate::MAX_PAGE_BYTES / 2].into();
        let put = Op::Put { key: tag(&n.to_string()), val, ttl: None };
        store.commit(Commit { ops: vec![put], ..Commit::default() }).await.unwrap();
    }
    assert_eq!(store.scan_all(all.clone(), 500).await.unwrap().len(), 7);
    assert_eq!(store.scan_all(all.clone(), 3).await.unwrap().len(), 3);
    let mut runs = 0;
    let (seen, _) = store
        .act(|mut tx| {
            runs += 1;
            let (run, store, all) = (runs, store.clone(), all.clone());
            async move {
                tx.delete(&tag("0"));
                let page = tx.scan(all.clone(), 500).await?;
                assert!(page.more && page.rows.len() < 4, "a transaction's page is bounded as well");
                let seen = tx.scan_all(all, 500).await?.len();
                if run == 1 {
                    write(&store, &tag("6"), "other").await;
                }
                Ok::<_, StoreError>(seen)
            }
        })
        .await
        .unwrap();
    assert_eq!((seen, runs), (6, 2));
}

#[tokio::test]
async fn an_error_of_the_closure_writes_nothing() {
    let store = store();
    let act = store.act(|mut tx| async move {
        tx.put(&tag("1"), "mine");
        Err::<(), _>(StoreError::Encode("no".into()))
    });
    assert_eq!(act.await, Err(StoreError::Encode("no".into())));
    assert_eq!(store.get(&tag("1")).await, Ok(None));
}

#[tokio::test]
async fn counters_references_and_logs() {
    let clock = ManualClock::new(1_000);
    let store = Store::new(Arc::new(Model::new(Arc::new(clock))));
    let quota = key(Space::Counter, &["quota", "dev"]);
    let refs = key(Space::Edge, &["dev", "sha256:1"]);
    let mut head = store.head();
    let (_, rev) = store
        .act(|mut tx| {
            let (quota, refs) = (&quota, &refs);
            async move {
                tx.max(quota, 100);
                tx.reference(refs, 1, (quota, 60));
                tx.reference(refs, 1, (quota, 60));
                tx.append_value(Space::Event, "pushed")?;
                tx.expect(Expect::Absent(quota.clone()));
                Ok::<_, StoreError>(())
            }
        })
        .await
        .unwrap();
    head.changed().await.unwrap();
    assert_eq!(*head.borrow(), rev.0);
    let row = store.get(&quota).await.unwrap().unwrap();
    assert_eq!(row.counter(), Ok(Counter { n: 60, max: 100 }));
    let event = store.get(&appended(Space::Event, rev, 0)).await.unwrap().unwrap();
    assert_eq!(event.value::<String>(), Ok("pushed".to_string()));
    let over = store.act(|mut tx| {
        let quota = &quota;
        async move {
            tx.add(quota, 41);
            Ok::<_, StoreError>(())
        }
    });
    assert_eq!(over.await, Err(StoreError::Bound { key: quota.clone(), n: 60, delta: 41, max: 100 }));
}
