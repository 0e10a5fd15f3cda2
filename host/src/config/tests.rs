use std::path::Path;

use tempfile::TempDir;

use super::*;

fn check(text: &str) -> Result<Config, String> {
    check_in(Path::new("/etc/wharf"), text)
}

fn check_in(folder: &Path, text: &str) -> Result<Config, String> {
    parse(text, folder, Path::new("/data")).map_err(|problems| {
        ConfigError::Wrong { path: Path::new("wharf.toml").to_owned(), problems }.to_string()
    })
}

#[test]
fn no_settings_are_the_defaults() {
    let config = check("").unwrap();
    assert_eq!(config.listen, LISTEN);
    assert_eq!(config.plugins, Path::new("/data/plugins"));
    assert_eq!(config.tls, Tls::Off);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn what_the_file_says_is_in_force() {
    let (folder, secret) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (certificate, key) = (folder.path().join("server.crt"), secret.path().join("server.key"));
    std::fs::write(&certificate, "").unwrap();
    std::fs::write(&key, "").unwrap();
    let text = format!(
        r#"
        listen = "0.0.0.0:5443"
        public_url = "https://registry.example.com"
        plugins = "policies"
        [tls]
        mode = "files"
        certificate = "server.crt"
        key = "{}"
        [limits]
        connections = 0x10
        [log]
        format = "json"
        [metrics]
        public = true
        "#,
        key.display()
    );
    let config = check_in(folder.path(), &text).unwrap();
    assert_eq!(config.listen, "0.0.0.0:5443".parse().unwrap());
    assert_eq!(config.plugins, folder.path().join("policies"));
    assert_eq!(config.tls, Tls::Files { certificate, key });
    assert_eq!(config.limits.connections, 16);
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.metrics.public);
}

#[test]
fn every_problem_is_told_with_its_line() {
    let wrong = check(
        r#"listen = "here"
public_url = "registry.example.com"
pluggins = "x"
metrics = true
[tls]
mode = "files"
names = ["a", 7]
[limits]
connections = 0
header_ms = -5
idel_ms = 100
[log]
format = "xml"
level = "inof"
[nonsense]
a = 1
[store]
cache_bytes = "16 MiB"
"#,
    );
    insta::assert_snapshot!(wrong.unwrap_err());
}

#[test]
fn broken_toml_is_told_with_its_lines_too() {
    let wrong = check("listen = \n[tls\nmode = \"auto\"\nmode = \"off\"\n[limits]\nconnections = 0\n");
    insta::assert_snapshot!(wrong.unwrap_err());
}

#[test]
fn what_is_logged_is_a_level_or_filters() {
    for right in ["info", "TRACE", "wharf=debug,warn", "off", "wharf::api[request]=debug"] {
        assert!(log_filter(right).is_ok(), "{right}");
    }
    for wrong in ["", "inof", "wharf", "wharf=loud", "info,"] {
        assert!(log_filter(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn certificates_go_with_their_mode() {
    insta::assert_snapshot!(check("[tls]\nmode = \"auto\"\nkey = \"k\"\n").unwrap_err());
}

/// They were taken here and refused when the server started.
#[test]
fn names_no_certificate_can_have_are_told() {
    let auto = |name: &str| check(&format!("[tls]\nmode = \"auto\"\nnames = [\"{name}\"]\n"));
    for right in ["registry", "registry.example.com", "*.example.com", "10.0.0.1", "::1"] {
        assert!(auto(right).is_ok(), "{right}");
    }
    for wrong in ["", "a b", "*", "*.", "registry:5000", "https://registry"] {
        let why = auto(wrong).unwrap_err();
        let told = format!("wharf.toml:3: `tls.names`: `{wrong}` is not a host name or an address");
        assert!(why.starts_with(&told), "{why}");
    }
}

#[test]
fn files_that_stand_in_the_way_or_are_missing_are_told() {
    let folder = TempDir::new().unwrap();
    let told = |text: &str| check_in(folder.path(), text).unwrap_err();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let no_folder = format!("wharf.toml:1: `plugins`: `{}` is not a folder", file.display());
    assert_eq!(told("plugins = \"file\""), no_folder);
    assert_eq!(told("plugins = \"file/plugins\""), no_folder);
    assert!(check_in(folder.path(), "plugins = \"made/at/the/start\"").is_ok());
    let both = told("[tls]\nmode = \"files\"\ncertificate = \"no.crt\"\nkey = \"no.key\"\n");
    for (line, name) in [(3, "certificate"), (4, "key")] {
        let told = format!("wharf.toml:{line}: `tls.{name}`: cannot read");
        assert!(both.contains(&told), "{both}");
    }
}

/// Its query became part of the challenge: `realm="http://x/path?y/token"`.
#[test]
fn a_public_url_is_a_scheme_and_a_host() {
    let public = |url: &str| check(&format!("public_url = '{url}'"));
    for right in ["https://registry.example.com", "http://10.0.0.1:5080/", "https://[::1]:5443", "http://x"] {
        assert!(public(right).is_ok(), "{right}");
    }
    for wrong in [
        "",
        "registry.example.com",
        "ftp://x",
        "https://",
        "https:///",
        "http://x/path",
        "http://x//",
        "http://x?y",
        "http://x/path?y",
        "http://x#y",
        "http://user@x",
        "http://:80",
        "http://x:port",
        "http://x:99999",
        "http://a b",
        "http://a\"b",
    ] {
        let why = public(wrong).unwrap_err();
        assert!(why.contains("`public_url`: it is not a URL"), "{wrong}: {why}");
    }
}

#[test]
fn the_problems_told_are_bounded() {
    let text: String = (0..1000).map(|i| format!("unknown{i} = 1\n")).collect();
    let told = check(&text).unwrap_err();
    assert_eq!(told.lines().count(), PROBLEMS_MAX + 1);
    assert!(told.ends_with("and 950 more problems"), "{told}");
}

#[test]
fn the_reference_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(kept == reference(), "docs/config.md is old; hint: `wharf config reference > docs/config.md`");
}
