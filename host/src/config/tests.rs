use std::path::Path;

use super::*;

fn check(text: &str) -> Result<Config, String> {
    let (folder, data) = (Path::new("/etc/wharf"), Path::new("/data"));
    parse(text, folder, data).map_err(|problems| {
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
    let config = check(
        r#"
        listen = "0.0.0.0:5443"
        public_url = "https://registry.example.com"
        plugins = "policies"
        [tls]
        mode = "files"
        certificate = "server.crt"
        key = "/secret/server.key"
        [limits]
        connections = 0x10
        [log]
        format = "json"
        [metrics]
        public = true
        "#,
    )
    .unwrap();
    assert_eq!(config.listen, "0.0.0.0:5443".parse().unwrap());
    assert_eq!(config.plugins, Path::new("/etc/wharf/policies"));
    let files = Tls::Files { certificate: "/etc/wharf/server.crt".into(), key: "/secret/server.key".into() };
    assert_eq!(config.tls, files);
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
