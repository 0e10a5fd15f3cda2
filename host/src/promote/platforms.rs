//! Which platforms of an index a binding is about.
//!
//! Invariant: what a runtime may take for a platform that the binding names is judged.

use wharf_oci::Platform as Wanted;
use wharf_plugin::facts::Platform;

/// Names that mean what they say and nothing else (Go's `GOOS` and `GOARCH`): containerd takes `x86_64`, `AMD64` and nothing for
/// what it runs on. `unknown` is the mark of an attestation, and no runtime's platform.
const OPERATING_SYSTEMS: [&str; 11] = [
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "wasi", "wasip1",
    "unknown",
];
const ARCHITECTURES: [&str; 15] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm", "unknown",
];

/// What an index says of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub platform: &'a Platform,
    /// Whether it takes features of the operating system, which not every runtime knows of.
    pub has_features: bool,
}

/// Whether each entry of an index counts for a binding that names the platforms `wanted`, all if none. Those that an index does not
/// name, or not clearly, count for all, and each variant of an architecture counts where one does. Where nothing is for a
/// platform as it is wanted, what its machines run besides counts, too.
pub fn counting(wanted: &[String], entries: &[Option<Entry<'_>>]) -> Vec<bool> {
    let Some(wanted) = wanted.iter().map(|name| parse(name)).collect::<Option<Vec<Wanted>>>() else {
        return vec![true; entries.len()];
    };
    let exact = |wanted: &Wanted| entries.iter().flatten().any(|entry| is_exactly(entry, wanted));
    let wanted: Vec<(&Wanted, bool)> = wanted.iter().map(|wanted| (wanted, exact(wanted))).collect();
    let counts = |entry: &Option<Entry<'_>>| match entry {
        Some(Entry { platform, .. }) if is_clear(&platform.os, &platform.architecture) => {
            wanted.iter().any(|(wanted, is_there)| may_be_taken(platform, wanted, *is_there))
        }
        _ => true,
    };
    entries.iter().map(|entry| wanted.is_empty() || counts(entry)).collect()
}

/// A platform that a binding may name; none where that is not clear.
pub fn parse(name: &str) -> Option<Wanted> {
    let wanted: Wanted = name.to_lowercase().parse().ok()?;
    is_clear(&wanted.os, &wanted.architecture).then_some(wanted)
}

fn is_clear(os: &str, architecture: &str) -> bool {
    OPERATING_SYSTEMS.contains(&os) && ARCHITECTURES.contains(&architecture)
}

/// Podman and containerd try the variants of one architecture in an order of their own each, and do not spell them alike; where
/// there is none that is exactly it, containerd goes on (`platforms`, `compare.go`, `defaults_*.go`).
fn may_be_taken(entry: &Platform, wanted: &Wanted, exact_is_there: bool) -> bool {
    let is_same = entry.architecture == wanted.architecture;
    let is_run_besides = match wanted.architecture.as_str() {
        "amd64" => entry.architecture == "386",
        "arm64" => entry.architecture == "arm",
        _ => false,
    };
    let runs_linux_besides = matches!(wanted.os.as_str(), "freebsd" | "darwin") && entry.os == "linux";
    entry.os == wanted.os && is_same
        || !exact_is_there && (is_same || is_run_besides) && (entry.os == wanted.os || runs_linux_besides)
}

/// Whether every runtime takes it for what is wanted. A machine calls itself by no variant but of `arm`, whatever it has.
fn is_exactly(entry: &Entry<'_>, wanted: &Wanted) -> bool {
    let platform = entry.platform;
    let is_plain = match (platform.architecture.as_str(), platform.variant.as_deref()) {
        (_, None) | ("amd64", Some("v1")) | ("arm64", Some("v8")) => true,
        (_, Some(_)) => false,
    };
    platform.os == wanted.os
        && platform.architecture == wanted.architecture
        && is_plain
        && platform.os_version.is_none()
        && !entry.has_features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_may_take_counts() {
        let check = |wanted: &[&str], index: &[&str], counted: &[&str]| {
            let entry = |text: &&str| {
                let mut parts = text.split('/').map(str::to_owned);
                let (os, architecture) = (parts.next().unwrap(), parts.next()?);
                Some(Platform { os, architecture, variant: parts.next(), os_version: None })
            };
            let entries: Vec<Option<Platform>> = index.iter().map(entry).collect();
            let entry = |platform| Entry { platform, has_features: false };
            let entries: Vec<Option<Entry<'_>>> =
                entries.iter().map(|platform| platform.as_ref().map(entry)).collect();
            let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            let counts = counting(&wanted, &entries);
            let found: Vec<&str> =
                index.iter().zip(counts).filter_map(|(text, counts)| counts.then_some(*text)).collect();
            assert_eq!(found, counted, "{wanted:?} in {index:?}");
        };
        let all = ["linux/amd64", "linux/arm64/v8", "linux/386", "unknown/unknown"];
        check(&[], &all, &all);
        check(&["linux/amd64"], &all, &["linux/amd64"]);
        check(&["linux/arm64"], &all, &["linux/arm64/v8"]);
        check(&["linux/amd64", "linux/arm64/v8"], &all, &["linux/amd64", "linux/arm64/v8"]);
        check(&["windows/amd64"], &all, &[]);
        // Of no entry's name, or of one that is not clear, a runtime may take it for its own.
        let unclear = ["linux/s390x", "none", "linux/x86_64", "Linux/AMD64", "/amd64"];
        check(&["linux/amd64"], &unclear, &unclear[1..]);
        // Regression: of the variants of an architecture, only some were judged.
        let variants = ["linux/arm64", "linux/arm64/v8", "linux/arm64/v9", "linux/arm/v7"];
        check(&["linux/arm64/v8"], &variants, &variants[..3]);
        let arm = ["linux/arm", "linux/arm/7", "linux/arm/v7", "linux/arm/v6"];
        check(&["linux/arm/v7"], &arm, &arm);
        check(&["Linux/ARM"], &arm, &arm);
        check(
            &["linux/amd64/v3"],
            &["linux/amd64", "linux/amd64/v3", "linux/386"],
            &["linux/amd64", "linux/amd64/v3"],
        );
        // Regression: a machine that the wanted entry is too new for takes another.
        check(&["linux/amd64"], &["linux/386", "linux/amd64/v4"], &["linux/386", "linux/amd64/v4"]);
        check(&["linux/amd64/v3"], &["linux/amd64/v2", "linux/386"], &["linux/amd64/v2", "linux/386"]);
        check(&["linux/arm64"], &["linux/arm/v7"], &["linux/arm/v7"]);
        // Regression: an entry was taken for exactly it that not every runtime takes so.
        check(&["linux/amd64"], &["linux/amd64/1", "linux/386"], &["linux/amd64/1", "linux/386"]);
        check(&["linux/amd64"], &["linux/amd64/v1", "linux/386"], &["linux/amd64/v1"]);
        check(&["linux/amd64/v3"], &["linux/amd64/v3", "linux/386"], &["linux/amd64/v3", "linux/386"]);
        check(&["linux/arm64/v9"], &["linux/arm64/v9", "linux/arm/v7"], &["linux/arm64/v9", "linux/arm/v7"]);
        check(&["freebsd/amd64"], &["freebsd/amd64/v3", "linux/386"], &["freebsd/amd64/v3", "linux/386"]);
        check(&["freebsd/amd64"], &["freebsd/amd64", "linux/amd64"], &["freebsd/amd64"]);
        // An earlier version took names that are not clear.
        check(&["linux/aarch64", "linux/amd64"], &["linux/arm64"], &["linux/arm64"]);
        check(&["linux/arm"], &["linux/arm64"], &[]);
    }

    #[test]
    fn what_takes_features_is_not_exactly_it() {
        let platform = |architecture: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        };
        let (amd64, older) = (platform("amd64"), platform("386"));
        for has_features in [true, false] {
            let entries = [
                Some(Entry { platform: &amd64, has_features }),
                Some(Entry { platform: &older, has_features: false }),
            ];
            assert_eq!(counting(&["linux/amd64".to_owned()], &entries), [true, has_features]);
        }
    }

    #[test]
    fn a_binding_names_platforms_clearly() {
        let check = |name: &str, valid: bool| assert_eq!(parse(name).is_some(), valid, "{name}");
        check("linux/amd64", true);
        check("Linux/ARM64/v8", true);
        check("linux/x86_64", false);
        check("linux/aarch64", false);
        check("linux", false);
    }
}
