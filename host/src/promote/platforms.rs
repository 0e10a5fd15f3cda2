//! Which platforms of an index a binding is about.
//!
//! Invariant: what a runtime may take for a platform that the binding names is judged.

use wharf_oci::Platform as Wanted;
use wharf_plugin::facts::Platform;

/// Names that mean what they say and nothing else (Go's `GOOS` and `GOARCH`): containerd takes `x86_64`, `AMD64` and nothing for
/// what it runs on. `unknown` is the mark of an attestation, and no runtime's platform.
const OPERATING_SYSTEMS: [&str; 9] =
    ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "unknown"];
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le",
    "riscv64", "s390x", "unknown",
];

/// Whether each entry of an index counts for a binding that names the platforms `wanted`, all if none. Those that an index does not
/// name, or not clearly, count for all, and each variant of an architecture counts where one does. Where nothing is for a
/// platform as it is wanted, what its machines run besides counts, too.
pub fn counting(wanted: &[String], entries: &[Option<&Platform>]) -> Vec<bool> {
    let wanted: Vec<Wanted> = wanted.iter().filter_map(|name| name.to_lowercase().parse().ok()).collect();
    let exact = |wanted: &Wanted| entries.iter().flatten().any(|entry| is_exactly(entry, wanted));
    let wanted: Vec<(&Wanted, bool)> = wanted.iter().map(|wanted| (wanted, exact(wanted))).collect();
    let counts = |entry: &Option<&Platform>| match entry {
        Some(entry) if is_clear(entry) => {
            wanted.iter().any(|(wanted, is_there)| may_be_taken(entry, wanted, *is_there))
        }
        _ => true,
    };
    entries.iter().map(|entry| wanted.is_empty() || counts(entry)).collect()
}

fn is_clear(platform: &Platform) -> bool {
    OPERATING_SYSTEMS.contains(&platform.os.as_str())
        && ARCHITECTURES.contains(&platform.architecture.as_str())
}

/// Podman and containerd try the variants of one architecture in an order of their own each, and do not spell them alike; where
/// there is none that is exactly it, containerd goes on (`platforms`, `compare.go`).
fn may_be_taken(entry: &Platform, wanted: &Wanted, exact_is_there: bool) -> bool {
    let falls_back = match wanted.architecture.as_str() {
        "amd64" => entry.architecture == "386",
        "arm64" => entry.architecture == "arm",
        _ => false,
    };
    let is_same = entry.architecture == wanted.architecture;
    entry.os == wanted.os && (is_same || falls_back && !exact_is_there)
}

fn is_exactly(entry: &Platform, wanted: &Wanted) -> bool {
    entry.os == wanted.os
        && entry.architecture == wanted.architecture
        && variant(&entry.architecture, entry.variant.as_deref())
            == variant(&wanted.architecture, wanted.variant.as_deref())
}

/// The spellings of one variant are one (containerd `platforms`, `database.go`).
fn variant(architecture: &str, variant: Option<&str>) -> String {
    let variant = variant.unwrap_or_default().to_lowercase();
    let plain = match (architecture, variant.strip_prefix('v').unwrap_or(&variant)) {
        ("arm64", "8") | ("amd64", "1") => "",
        ("arm", "") => "7",
        (_, plain) => plain,
    };
    plain.to_owned()
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
            let entries: Vec<Option<&Platform>> = entries.iter().map(Option::as_ref).collect();
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
        check(&["linux/arm"], &["linux/arm64"], &[]);
    }
}
