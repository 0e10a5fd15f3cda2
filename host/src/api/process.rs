//! What the process takes of its machine, under the names that all of Prometheus' clients give it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Says what the metrics are, and since when there is this process.
pub(super) fn describe() {
    metrics::describe_gauge!("process_start_time_seconds", "When the process began, seconds since 1970.");
    metrics::describe_gauge!("process_resident_memory_bytes", "Memory that is resident.");
    metrics::describe_gauge!("process_open_fds", "Files and connections that are open.");
    metrics::describe_counter!("process_cpu_seconds_total", "Time on a processor, user and system.");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!("process_start_time_seconds").set(since.as_secs_f64());
}

/// Looks now. What the kernel does not tell stays as it was.
pub(super) fn measure() {
    if let Some(pages) = fs::read_to_string("/proc/self/statm").ok().and_then(|text| resident_pages(&text)) {
        let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
        metrics::gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is what reads the folder.
        metrics::gauge!("process_open_fds").set(open.count().saturating_sub(1) as f64);
    }
    if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| ticks(&text)) {
        metrics::counter!("process_cpu_seconds_total")
            .absolute(ticks / rustix::param::clock_ticks_per_second());
    }
}

/// The second field of `/proc/PID/statm` (proc(5)).
fn resident_pages(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// `utime` and `stime` of `/proc/PID/stat`. The command before them may hold spaces, but no `)` comes after it.
fn ticks(text: &str) -> Option<u64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        assert_eq!(resident_pages("5119 1234 567 1 0 89 0\n"), Some(1234));
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 90 0 0 0 150 25 3 4 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!((resident_pages(""), ticks("")), (None, None));
    }
}
