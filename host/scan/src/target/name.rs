//! Names of images in a layout or an archive: each program completes them in its own way, and people write them short.

/// Where docker and skopeo take a name without a host from.
const HUB: &str = "docker.io";
/// Where podman puts what was built on the machine.
const LOCAL: &str = "localhost";

/// The image that is asked for, by a tag or a name.
pub(super) struct Asked<'a> {
    name: &'a str,
    is_exact: bool,
}

impl<'a> Asked<'a> {
    /// A name that is there as it was asked for means no other.
    pub(super) fn among<'n>(name: &'a str, mut there: impl Iterator<Item = &'n str>) -> Self {
        Self { name, is_exact: there.any(|there| there == name) }
    }

    pub(super) fn is(&self, found: &str) -> bool {
        if self.is_exact {
            return found == self.name;
        }
        let is_tag = found.rsplit_once(':').is_some_and(|(_, tag)| tag == self.name);
        is_tag || {
            let found = full(found);
            found == full(self.name) || found == full(&format!("{LOCAL}/{}", self.name))
        }
    }
}

/// The name as docker completes it: `app` is `docker.io/library/app:latest`.
fn full(name: &str) -> String {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host == LOCAL || host.contains(['.', ':']) => (host, path),
        _ => (HUB, name),
    };
    let library = if host == HUB && !path.contains('/') { "library/" } else { "" };
    let tag = if path.contains(':') { "" } else { ":latest" };
    format!("{host}/{library}{path}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: of `skopeo copy … docker-archive:da.tar:app:1.0` and `podman save myapp:1`, the names that they were written
    /// under found nothing.
    #[test]
    fn a_name_is_found_as_short_as_it_is_written() {
        let check = |name: &str, there: &[&str], expected: &[&str]| {
            let asked = Asked::among(name, there.iter().copied());
            let found: Vec<&str> = there.iter().copied().filter(|found| asked.is(found)).collect();
            assert_eq!(found, expected, "{name}");
        };
        let hub = "docker.io/library/app:1.0";
        for name in ["1.0", "app:1.0", "library/app:1.0", "docker.io/app:1.0", hub] {
            check(name, &[hub], &[hub]);
        }
        for name in ["app", "app:2.0", "web:1.0", "localhost/app:1.0", "r.example.com/app:1.0", ""] {
            check(name, &[hub], &[]);
        }
        check("app", &["app:1", "docker.io/library/app:latest"], &["docker.io/library/app:latest"]);
        check("docker.io/library/app:1.0", &["app:1.0"], &["app:1.0"]);
        check("dev/app:1", &["docker.io/dev/app:1", "r.example.com/dev/app:1"], &["docker.io/dev/app:1"]);
        check("myapp:1", &["localhost/myapp:1"], &["localhost/myapp:1"]);
        check("myapp", &["localhost/myapp:latest"], &["localhost/myapp:latest"]);
        check("localhost:5000/app", &["localhost:5000/app:latest"], &["localhost:5000/app:latest"]);
        // Both are called so: who asks says which.
        let both = ["docker.io/library/app:1", "localhost/app:1"];
        check("app:1", &both, &both);
        check("localhost/app:1", &both, &both[1..]);
        check("1.0", &["1.0", "app:1.0"], &["1.0"]);
    }
}
