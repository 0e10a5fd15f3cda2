//! `cargo run --release -p wharf-scan --example scan_speed -- TARGET [RUNS]`: what a scan of a real image costs.
//!
//! Prints the time, the bytes, and this process's CPU seconds and peak memory as the kernel counted them.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::path::Path;
use std::time::Instant;

use wharf_scan::Limits;
use wharf_scan::target::{Choice, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().ok_or("usage: scan_speed TARGET [RUNS]")?;
    let runs: u32 = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let target = Target::open(Path::new(&target))?;
    for _ in 0..runs {
        let (start, cpu) = (Instant::now(), cpu_seconds()?);
        let report = target.scan(&Choice::default(), &Limits::default(), &mut |_| {})?;
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
        let gb = report.layers.iter().map(|l| l.uncompressed).sum::<u64>() as f64 / 1e9;
        let stored = report.layers.iter().map(|l| l.size).sum::<u64>() as f64 / 1e9;
        let files: u64 = report.layers.iter().map(|l| l.files).sum();
        println!(
            "{} packages, {} problems, {files} files, {} layers, {gb:.3} GB ({stored:.3} GB stored): {wall:.2} s, {cpu:.2} CPU-s, {:.2} CPU-s/GB, peak {} MB",
            report.packages.len(),
            report.problems.len(),
            report.layers.len(),
            cpu / gb,
            peak_kb()? / 1024,
        );
        for problem in &report.problems {
            println!("  {problem:?}");
        }
    }
    Ok(())
}

/// User and system time of this process, from `/proc/self/stat` (proc(5); ticks of 10 ms on Linux).
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn peak_kb() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmHWM")?.parse()?)
}
