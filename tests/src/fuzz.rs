//! The fuzz targets over their seeds, on stable: what once broke one stays mended.

use std::fs;

use wharf_tests::server::root;

#[allow(unreachable_pub, reason = "a library of its own, in `fuzz/`")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn seeds_break_nothing() {
    for (name, target) in targets::TARGETS {
        let seeds = root().join("fuzz/seeds").join(name);
        let mut count = 0;
        for seed in fs::read_dir(&seeds).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "`{}` has no seed", seeds.display());
    }
}
