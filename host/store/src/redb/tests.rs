use super::*;
use crate::conformance::Subject;
use crate::{Expect, ManualClock, Op, Space, StoreError, key};

fn options() -> Options {
    Options { ballast_bytes: 1 << 20, ..Options::default() }
}

fn put(key: &Key) -> Commit {
    let put = Op::Put { key: key.clone(), val: "x".into(), ttl: None };
    Commit { ops: vec![put], ..Commit::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    crate::conformance::run(|| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (path, clock) = (dir.path().join(n.to_string()), ManualClock::new(1_000_000));
        let ballast = Ballast::new(path.join("ballast"), 0);
        std::fs::create_dir(&path).unwrap();
        let opener = Opener::file(path.join(file::NAME), 1 << 20);
        let redb = Redb::open(opener, ballast, Arc::new(clock.clone())).unwrap();
        async move { Subject::by_hand(Arc::new(redb), clock) }
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let k = key(Space::Tag, &["dev/app", "1"]);
    let store = Store::open(dir.path(), &options()).unwrap();
    let second = Store::open(dir.path(), &options());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    store.commit(put(&k)).await.unwrap();
    store.commit(put(&k)).await.unwrap();
    drop(store);
    let store = Store::open(dir.path(), &options()).unwrap();
    assert_eq!(store.get(&k).await.unwrap().unwrap().rev.0, 2);
    assert_eq!(*store.head().borrow(), 2);
    assert_eq!(store.commit(put(&k)).await.unwrap().rev.0, 3);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(dir.path().join(file::NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::metadata(dir.path().join("ballast")).unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file::NAME);
    drop(Store::open(dir.path(), &options()).unwrap());
    let database = ::redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let engine: ::redb::TableDefinition<'_, &str, &[u8]> = ::redb::TableDefinition::new("engine");
    transaction.open_table(engine).unwrap().insert("schema", 9u32.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(dir.path(), &options()).unwrap_err();
    let OpenError::Newer { found: 9, known: 1, .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("use a newer `wharf`"));
}

/// Regression: nothing could be read of a space that was added after the file was made.
#[tokio::test]
async fn a_file_that_is_older_than_a_space_gets_it() {
    let (dir, last) = (tempfile::tempdir().unwrap(), Space::ALL.last().unwrap());
    drop(Store::open(dir.path(), &options()).unwrap());
    let database = ::redb::Database::open(dir.path().join(file::NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    let youngest: ::redb::TableDefinition<'_, &[u8], &[u8]> = ::redb::TableDefinition::new(last.name());
    assert!(transaction.delete_table(youngest).unwrap());
    transaction.commit().unwrap();
    drop(database);
    let store = Store::open(dir.path(), &options()).unwrap();
    assert_eq!(store.get(&Key::new(*last, "k")).await.unwrap(), None);
}

/// One row that is too short once failed every batch in which a commit looked at it, and all others heard `Down`.
#[tokio::test]
async fn a_short_row_costs_only_those_who_look_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let (short, other) = (key(Space::Tag, &["dev/app", "1"]), key(Space::User, &["u"]));
    drop(Store::open(dir.path(), &options()).unwrap());
    let database = ::redb::Database::open(dir.path().join(file::NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(file::table(Space::Tag))
        .unwrap()
        .insert(&*short.bytes, &b"123456789"[..])
        .unwrap();
    transaction.commit().unwrap();
    drop(database);

    let store = Store::open(dir.path(), &options()).unwrap();
    let expecting = |expect: Expect| Commit { expect: vec![expect], ..put(&other) };
    let looks = [
        expecting(Expect::Absent(short.clone())),
        expecting(Expect::Present(short.clone())),
        expecting(Expect::Range { range: KeyRange::all(Space::Tag), rows: 1, max_rev: crate::Rev(1) }),
        Commit { ops: vec![Op::Add { key: short.clone(), delta: 1 }], ..Commit::default() },
    ];
    let damaged = CommitError::Damaged { key: short.clone(), reason: SHORT_ROW.into() };
    for commit in looks {
        let (done, refused) = tokio::join!(store.commit(put(&other)), store.commit(commit.clone()));
        assert!(done.is_ok(), "{done:?}");
        assert_eq!(refused, Err(damaged.clone()), "{commit:?}");
    }
    assert_eq!(store.get(&short).await, Err(damaged.into()));
    store.commit(put(&short)).await.unwrap();
    assert!(store.get(&short).await.unwrap().is_some(), "whoever writes it anew mends it");
}

#[tokio::test]
async fn another_programs_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file::NAME);
    let database = ::redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let other: ::redb::TableDefinition<'_, &str, &[u8]> = ::redb::TableDefinition::new("other");
    transaction.open_table(other).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(Store::open(dir.path(), &options()), Err(OpenError::Foreign { .. })));
    std::fs::write(&path, "hello, this is not a database at all").unwrap();
    assert!(matches!(
        Store::open(dir.path(), &options()),
        Err(OpenError::Redb { .. } | OpenError::Io { .. })
    ));
}

/// Whatever was in the way of the ballast, such as a directory of its name, once made the disk look full for good.
#[tokio::test]
async fn a_ballast_that_cannot_be_made_turns_nobody_away() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ballast")).unwrap();
    let store = Store::open(dir.path(), &options()).unwrap();
    store.commit(put(&key(Space::Tag, &["dev/app", "1"]))).await.unwrap();
}

#[tokio::test]
async fn compacting_gives_space_back_and_keeps_rows() {
    let dir = tempfile::tempdir().unwrap();
    let k = |n: u64| key(Space::Blob, &[crate::number(n)]);
    let store = Store::open(dir.path(), &options()).unwrap();
    for n in 0..20 {
        let op = Op::Put { key: k(n), val: vec![1; 200_000].into(), ttl: None };
        store.commit(Commit { ops: vec![op], ..Commit::default() }).await.unwrap();
    }
    let ops = (0..19).map(|n| Op::Delete(k(n))).collect();
    store.commit(Commit { ops, ..Commit::default() }).await.unwrap();
    assert!(matches!(compact(dir.path(), &options()), Err(OpenError::InUse { .. })));
    drop(store);
    let compacted = compact(dir.path(), &options()).unwrap();
    assert!(compacted.after < compacted.before / 2, "{compacted:?}");
    let store = Store::open(dir.path(), &options()).unwrap();
    assert_eq!(store.get(&k(19)).await.unwrap().unwrap().val.len(), 200_000);
    let act = store.act(|mut tx| async move { tx.present(&key(Space::Blob, &[crate::number(1)])).await });
    assert_eq!(act.await.map(|(present, _)| present), Ok::<_, StoreError>(false));
}
