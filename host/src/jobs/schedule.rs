use std::time::Duration;

use wharf_store::{Expect, Space, Store, StoreError, key};

use super::queue::Work;
use super::row::enqueue;

/// Work that comes back without an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Every {
    pub work: Work,
    pub period: Duration,
}

/// Makes the jobs that are due. Each period's mark is a row with a time to live, written in the commit that makes the job,
/// so that several hosts, or a restart, make one. Returns the jobs made.
pub async fn tick(store: &Store, schedule: &[Every]) -> Result<usize, StoreError> {
    let mut made = 0;
    for Every { work, period } in schedule {
        let mark = key(Space::Cursor, &["schedule", &work.subject()]);
        let due = store.get(&mark).await?.is_none_or(|row| row.expired(store.now_ms()));
        if !due {
            continue;
        }
        let mark = &mark;
        let acted = store
            .act(|mut tx| async move {
                tx.expect(Expect::Expired(mark.clone()));
                tx.put_ttl(mark, Vec::new(), *period);
                enqueue(&mut tx, work.clone(), None).await
            })
            .await;
        match acted {
            Ok(_) => made += 1,
            // Another host was first.
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}
