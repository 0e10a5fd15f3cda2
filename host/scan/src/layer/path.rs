//! Member names as an extractor reads them.

/// The path without leading `/` and `./`, doubled slashes and `.` parts; empty for the root itself.
///
/// `None` for what no honest archive has: a `..` part (which extractors understand in different ways), a NUL, or more than
/// `max` bytes.
pub(crate) fn normal(path: &str, max: u32) -> Option<String> {
    if path.len() > max as usize || path.contains('\0') {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => {
                if !out.is_empty() {
                    out.push('/');
                }
                out.push_str(part);
            }
        }
    }
    Some(out)
}

/// Directory and last part; the directory is empty at the root.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// What a symbolic link at `from` points at, as a path of parts that may still be links. Going above the root stays there,
/// as it does for a process in the container.
pub(crate) fn join(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        split(from).0.split('/').filter(|p| !p.is_empty()).collect()
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normal_form() {
        for (given, expected) in [
            ("./etc//os-release", Some("etc/os-release")),
            ("/etc/./x/", Some("etc/x")),
            ("./", Some("")),
            ("a/../etc/passwd", None),
            ("..", None),
            ("a\0b", None),
            ("...", Some("...")),
        ] {
            assert_eq!(normal(given, 100).as_deref(), expected, "{given:?}");
        }
        assert_eq!(normal(&"x".repeat(101), 100), None);
    }

    #[test]
    fn joins_links() {
        assert_eq!(join("etc/os-release", "../usr/lib/os-release"), "usr/lib/os-release");
        assert_eq!(join("lib", "usr/lib"), "usr/lib");
        assert_eq!(join("a/b", "/x/./y"), "x/y");
        assert_eq!(join("a/b", "../../../../etc"), "etc");
    }

    proptest! {
        #[test]
        fn normal_is_idempotent(path in "[./a]{0,12}") {
            if let Some(once) = normal(&path, 100) {
                prop_assert_eq!(normal(&once, 100), Some(once.clone()));
            }
        }
    }
}
