//! `cargo run --release -p wharf-scan --example db_import -- OUT.db TARGET FILE…`: import, open, scan and match, each timed.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use wharf_scan::Limits;
use wharf_scan::target::{Choice, Target};
use wharf_scan::vuln::{Db, Import, match_report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, target, files @ ..] = arguments.as_slice() else {
        return Err("usage: db_import OUT.db TARGET FILE…".into());
    };
    let start = Instant::now();
    let mut import = Import::new();
    for file in files {
        import.add(file, File::open(file)?)?;
    }
    println!("{:?}", import.stats());
    let bytes = import.finish()?;
    std::fs::write(out, &bytes)?;
    println!("import: {:.2} s, {} bytes", start.elapsed().as_secs_f64(), bytes.len());
    let start = Instant::now();
    let db = Db::open(Path::new(out))?;
    println!("open: {:.1} ms, {:?}", start.elapsed().as_secs_f64() * 1e3, db.coverage());
    let report =
        Target::open(Path::new(target))?.scan(&Choice::default(), &Limits::default(), &mut |_| {})?;
    let start = Instant::now();
    let findings = match_report(&report, &db)?;
    println!(
        "match: {:.2} ms, {} packages, {} findings, {} {:?}",
        start.elapsed().as_secs_f64() * 1e3,
        report.packages.len(),
        findings.findings.len(),
        findings.knowledge,
        findings.counts(),
    );
    for finding in findings.findings.iter().take(5) {
        println!("  {finding:?}");
    }
    Ok(())
}
