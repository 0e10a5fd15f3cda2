//! How a server starts, answers and stops, told from outside.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use tempfile::TempDir;
use wharf_tests::server::binary;
use wharf_tests::{Server, http, settings};

/// How long a job may take on a loaded machine. Seconds.
const WAIT_S: u32 = 120;

fn challenge(answer: &Response) -> String {
    answer.headers()["www-authenticate"].to_str().unwrap().to_owned()
}

/// What stands in the way of a start: the exit status and what is said of it.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary()).arg("serve").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

#[test]
fn what_stands_in_the_way_of_a_start_is_said() {
    let server = Server::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, taken) = (path("data"), server.data().to_str().unwrap());
    std::fs::write(path("file"), "").unwrap();
    let wrong = settings(folder.path(), "[log]\nlevel = \"inof\"\n[limits]\nconections = 7\n");
    let check = |arguments: &[&str], status: i32, says: &[&str]| {
        let (ended, said) = refused(arguments);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(ended, Some(status), "{arguments:?}: {said}");
        assert!(says.iter().all(|text| said.contains(text)), "{arguments:?}: {said}");
        // One message, and where it is known what to do about it; the same cause is not told twice.
        let error = lines.iter().find(|line| line.starts_with("error: ")).unwrap();
        let told: Vec<&str> = error.split(": ").collect();
        assert!(told.iter().all(|part| told.iter().filter(|other| other == &part).count() == 1), "{error}");
    };
    let free = "127.0.0.1:0";
    check(&["--data", &data, "--listen", server.host()], 1, &["cannot listen on", "in use", "\nhint: "]);
    check(&["--data", taken, "--listen", free], 1, &["meta.redb", "in use", "\nhint: "]);
    check(&["--data", &path("file/data"), "--listen", free], 1, &["file/data", "Not a directory"]);
    check(&["--data", &data, "--config", &path("none.toml")], 2, &["none.toml", "No such file"]);
    check(
        &["--data", &data, "--config", &wrong],
        2,
        &["wharf.toml:2: `log.level`", "wharf.toml:4: there is no setting `limits.conections`"],
    );
    check(&["--data", &data, "--log", "loud"], 2, &["`loud` is not a log level"]);
    check(&["--data", &data, "--listen", free, "--tls", "a,b"], 1, &["cannot read `a`", "No such file"]);
}

/// Whatever rights the folder has that somebody made for it, what the server puts there is its owner's.
#[test]
fn what_a_server_writes_is_its_owners() {
    let folder = TempDir::new().unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut server = Server::start_in(folder.path(), &["--tls", "auto"]).unwrap();
    server.stop().unwrap();
    let mut open = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            if mode & 0o077 != 0 {
                open.push(path.clone());
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    // The authority's certificate is for everybody.
    assert_eq!(open, [folder.path().join("tls/ca.crt")]);
}

#[tokio::test]
async fn metrics_are_for_administrators_and_named_as_prometheus_does() {
    let server = Server::start().unwrap();
    let ask = || http().get(format!("{}/metrics", server.url));
    assert_eq!(ask().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let mut text = String::new();
    // Jobs have metrics of their own: a server that starts runs its housekeeping at once.
    for _ in 0..WAIT_S {
        let answer = ask().basic_auth("admin", Some(&server.admin_password)).send().await.unwrap();
        text = answer.text().await.unwrap();
        if text.contains("wharf_scrub_damaged_total") {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(text.contains("wharf_scrub_damaged_total"), "no scrub within {WAIT_S} s: {text}");
    let kinds: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(kinds.len() > 5, "{text}");
    for (name, kind) in kinds {
        let total = name.ends_with("_total");
        assert_eq!(kind == "counter", total, "{name} is a {kind}");
        assert!(["wharf_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} does not say what it is");
    }
    for endpoint in ["healthz", "readyz"] {
        let answer = http().get(format!("{}/{endpoint}", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{endpoint}");
    }
}

/// A server that waits for what runs, longer than anything here takes.
fn patient() -> (Server, TempDir) {
    let folder = TempDir::new().unwrap();
    let file = settings(folder.path(), "[limits]\nstop_ms = 600000\n");
    (Server::start_with(&["--config", &file]).unwrap(), folder)
}

/// A request that is in the server's hands and waits for the rest of its body.
fn unfinished(server: &Server, body: &str) -> TcpStream {
    let length = body.len();
    let head = format!(
        "POST /token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.host()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // Said as the body is asked for.
    let mut said = [0; CONTINUE.len()];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(said, CONTINUE);
    stream.write_all(&body.as_bytes()[..UNFINISHED_AT]).unwrap();
    stream
}

const CONTINUE: [u8; 25] = *b"HTTP/1.1 100 Continue\r\n\r\n";

/// How much of the body is sent at first.
const UNFINISHED_AT: usize = 10;
const FORM: &str = "grant_type=password&username=admin&password=wrong";

/// Waits until nobody listens there any more.
fn until_closed(stream: &TcpStream) {
    while TcpStream::connect(stream.peer_addr().unwrap()).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_runs_is_ended_when_the_server_is_told_to_stop() {
    let (mut server, _folder) = patient();
    let mut stream = unfinished(&server, FORM);
    let stopped = std::thread::spawn(move || {
        server.stop().unwrap();
        server
    });
    until_closed(&stream);
    stream.write_all(&FORM.as_bytes()[UNFINISHED_AT..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    stopped.join().unwrap();
}

#[test]
fn a_server_that_is_told_twice_ends_at_once() {
    let (mut server, _folder) = patient();
    let stream = unfinished(&server, FORM);
    server.signal("TERM").unwrap();
    until_closed(&stream);
    server.signal("INT").unwrap();
    // The request never ends, so that a server which waited for it would run into the time given to it and end well.
    assert_eq!(server.ended().unwrap().code(), Some(1));
    server.restart().unwrap();
}

#[test]
fn a_connection_that_stalls_is_closed() {
    let folder = TempDir::new().unwrap();
    let file = settings(folder.path(), "[limits]\nheader_ms = 300\nidle_ms = 1000\n");
    let server = Server::start_with(&["--config", &file]).unwrap();
    // Nothing; too little to tell the protocol; a header without an end; a body without one.
    for said in [
        "",
        "P",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na",
    ] {
        let mut stream = TcpStream::connect(server.host()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        // The end of the stream, at once or behind an answer; a connection that stays open ends in the time-out.
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let reset = ended.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(ended.is_ok() || reset, "after {said:?}: {ended:?}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_with_and_without_tls() {
    let plain = Server::start().unwrap();
    let _provider = http();
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("{}/healthz", plain.url)).send().await.unwrap();
    assert_eq!((answer.version(), answer.status()), (reqwest::Version::HTTP_2, StatusCode::OK));
    // The realm is right where there is no Host header.
    let answer = client.get(format!("{}/v2/", plain.url)).send().await.unwrap();
    assert!(challenge(&answer).contains(&format!("realm=\"{}/token\"", plain.url)));

    let tls = Server::start_with(&["--tls", "auto"]).unwrap();
    let authority = std::fs::read(tls.data().join("tls/ca.crt")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let client = Client::builder().tls_certs_only([authority]).build().unwrap();
    let port = tls.host().rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost"] {
        let answer = client.get(format!("https://{host}:{port}/v2/")).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        assert!(challenge(&answer).contains(&format!("realm=\"https://{host}:{port}/token\"")));
    }
}
