//! The clock of running calls: a thread that moves the engine's epoch on each ms while there are calls, and sleeps while
//! there are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::EngineWeak;

use super::TICK_MS;

/// Ticks without a call after which the thread sleeps. Calls in quick succession then never have to wake it.
const IDLE_TICKS: u32 = 50;

#[derive(Debug, Default)]
struct Shared {
    running: AtomicU32,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// The thread; dropping this ends it.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// While this lives, the clock runs.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("plugin-clock".into()).spawn(move || tick(&seen, &engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn run(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.iter().for_each(|thread| thread.thread().unpark());
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(TICK_MS));
        if shared.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            continue;
        }
        idle += 1;
        if idle >= IDLE_TICKS {
            // Both sides write first and read then, so one of the two sees the other: a call that starts now either is seen
            // here, or sees `asleep` and unparks.
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread does not panic; if it did, there is nothing left to stop.
            let _ = thread.join();
        }
    }
}
