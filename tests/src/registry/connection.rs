//! Connections: how many, how slow, how they end, and the certificate they begin with.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use wharf_tests::{Server, settings, tool};

use super::basic;

/// Longer than any limit that these tests set: a read that takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at that must happen soon.
const LOOKS: usize = 600;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A server whose settings file says this about its limits. The folder holds the file.
fn start(limits: &str) -> Result<(Server, TempDir)> {
    let folder = TempDir::new()?;
    let config = folder.path().join("wharf.toml");
    fs::write(&config, format!("[limits]\n{limits}\n"))?;
    let server = Server::start_with(&["--config", config.to_str().context("a path")?])?;
    Ok((server, folder))
}

fn connect(server: &Server) -> Result<TcpStream> {
    let stream = TcpStream::connect(server.host())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The head of a request by the administrator, all but its last line.
fn head(server: &Server, line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {}\r\n{}\r\n", server.host(), basic(server))
}

/// Reads until the other side closes; what it said.
fn rest(mut stream: TcpStream) -> Result<String> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(String::from_utf8_lossy(&said).into_owned()),
    }
}

/// Reads the head of an answer.
fn answer(stream: &mut TcpStream) -> Result<String> {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "closed after `{}`", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    Ok(String::from_utf8(said)?)
}

#[test]
fn whoever_takes_too_long_to_say_something_is_cut_off() -> Result<()> {
    let (server, _folder) = start("header_ms = 500\nidle_ms = 1000")?;
    for begin in ["", "GET", "GET /v2/ HTTP/1.1\r\nX-Slow: ", "PRI * HTTP/2.0\r\n"] {
        let mut stream = connect(&server)?;
        stream.write_all(begin.as_bytes())?;
        let said = rest(stream)?;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{begin}: {said}");
    }
    let mut stream = connect(&server)?;
    let begin = head(
        &server,
        "POST /v2/dev/app/blobs/uploads/?digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    );
    stream.write_all(format!("{begin}Content-Length: 1000\r\n\r\nten bytes.").as_bytes())?;
    let said = rest(stream)?;
    assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    // Nobody else notices, as long as the machine lets them be quick.
    for _ in 0..LOOKS {
        let mut stream = connect(&server)?;
        stream.write_all(format!("{}\r\n", head(&server, "GET /v2/")).as_bytes())?;
        if answer(&mut stream).is_ok_and(|said| said.starts_with("HTTP/1.1 200")) {
            return Ok(());
        }
    }
    anyhow::bail!("nobody is answered any more")
}

/// What was announced was waited for.
#[test]
fn a_blob_that_is_announced_too_large_is_refused_before_it_is_sent() -> Result<()> {
    let server = Server::start()?;
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut stream = connect(&server)?;
    let begin = head(&server, &format!("POST /v2/dev/app/blobs/uploads/?digest={digest}"));
    stream.write_all(format!("{begin}Content-Length: 99999999999999999\r\n\r\n").as_bytes())?;
    // The rest ends as the server closes: nothing more is waited for.
    let said = rest(stream)?;
    ensure!(said.starts_with("HTTP/1.1 413") && said.contains("SIZE_INVALID"), "{said}");
    Ok(())
}

#[test]
fn a_header_has_an_end() -> Result<()> {
    let server = Server::start()?;
    let mut stream = connect(&server)?;
    let begin = head(&server, "GET /v2/");
    // The server answers, or closes, before all of it is written.
    let _ = stream.write_all(format!("{begin}X-Long: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    let said = rest(stream)?;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    Ok(())
}

#[test]
fn one_connection_too_many_waits_for_its_turn() -> Result<()> {
    // None of those that are open ends by itself.
    let (server, _folder) = start("connections = 3\nheader_ms = 600000\nidle_ms = 3600000")?;
    let request = format!("{}\r\n", head(&server, "GET /v2/"));
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&server)?;
        stream.write_all(request.as_bytes())?;
        assert!(answer(&mut stream)?.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    let mut waiting = connect(&server)?;
    waiting.write_all(request.as_bytes())?;
    waiting.set_read_timeout(Some(LOOK_EVERY))?;
    let early = waiting.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(early, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{early:?}");
    waiting.set_read_timeout(Some(PATIENCE))?;
    open.pop();
    assert!(answer(&mut waiting)?.starts_with("HTTP/1.1 200"));
    Ok(())
}

#[test]
fn what_is_under_way_is_answered_before_the_server_ends() -> Result<()> {
    let (mut server, _folder) = start("stop_ms = 600000")?;
    let mut stream = connect(&server)?;
    let begin = head(&server, "POST /v2/dev/app/blobs/uploads/");
    stream.write_all(format!("{begin}Content-Length: 0\r\n\r\n").as_bytes())?;
    let opened = answer(&mut stream)?;
    let location = opened.lines().find_map(|line| line.strip_prefix("location: ")).context("a location")?;
    let begin = head(&server, &format!("PATCH {}", location.trim()));
    stream.write_all(format!("{begin}Expect: 100-continue\r\nContent-Length: 20\r\n\r\n").as_bytes())?;
    // Said as the body is asked for: the request is in the server's hands.
    let said = answer(&mut stream)?;
    assert!(said.starts_with("HTTP/1.1 100"), "{said}");
    stream.write_all(b"ten bytes.")?;
    server.signal("TERM")?;
    // The socket is closed to new ones from now on.
    for _ in 0..LOOKS {
        if TcpStream::connect(server.host()).is_err() {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    stream.write_all(b"ten bytes.")?;
    let said = answer(&mut stream)?;
    assert!(said.starts_with("HTTP/1.1 202") && said.contains("range: 0-19"), "{said}");
    // Not `stop`: a second signal would end the server at once.
    let ended = server.ended()?;
    ensure!(ended.success(), "the server ended with {ended}");
    Ok(())
}

/// The certificate that the server shows, in PEM.
fn shown(server: &Server) -> Result<String> {
    let said = tool("openssl", &["s_client", "-connect", server.host(), "-servername", "localhost"])?;
    let begin = said.find("-----BEGIN CERTIFICATE").context("no certificate was shown")?;
    let end = said.find("-----END CERTIFICATE").context("no certificate was shown")?;
    Ok(said[begin..end].to_owned())
}

fn file(server: &Server, name: &str) -> std::path::PathBuf {
    server.data().join("tls").join(name)
}

/// The certificate in a file, in the form of [`shown`].
fn written(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)?.replace("\r\n", "\n");
    Ok(text.split("-----END").next().unwrap_or_default().to_owned())
}

/// Asks for a new certificate from the same authority, and waits until it is shown.
fn renew(server: &Server) -> Result<String> {
    let before = shown(server)?;
    fs::remove_file(file(server, "server.json"))?;
    server.signal("HUP")?;
    for _ in 0..LOOKS {
        let now = shown(server)?;
        if now != before {
            return Ok(now);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    anyhow::bail!("the certificate stayed as it was")
}

/// Regression: `--tls auto` signed for none of the names that the settings file has for it.
#[test]
fn the_names_of_the_settings_file_hold_beside_the_option() -> Result<()> {
    let folder = TempDir::new()?;
    let name = "registry.example.com";
    let config = settings(folder.path(), &format!("[tls]\nmode = \"auto\"\nnames = [\"{name}\"]\n"));
    let server = Server::start_with(&["--config", &config, "--tls", "auto"])?;
    let fetched = format!("  curl --insecure -o ca.crt https://{name}:");
    ensure!(server.said.iter().any(|line| line.starts_with(&fetched)), "{:?}", server.said);
    let authority = file(&server, "ca.crt");
    let authority = authority.to_str().context("a path")?;
    let verifies = ["-CAfile", authority, "-verify_return_error", "-verify_hostname", name];
    tool(
        "openssl",
        &[&["s_client", "-connect", server.host(), "-servername", name], &verifies[..]].concat(),
    )?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_read_again_at_sighup_and_a_broken_one_is_not() -> Result<()> {
    let server = Server::start_with(&["--tls", "auto"])?;
    let certificate = file(&server, "server.crt");
    let authority = reqwest::Certificate::from_pem(&fs::read(file(&server, "ca.crt"))?)?;
    let _ = wharf_tests::http();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build()?;
    let url = format!("{}/healthz", server.url);
    client.get(&url).send().await?.error_for_status()?;
    assert_eq!(shown(&server)?, written(&certificate)?);

    let second = renew(&server)?;
    assert_eq!(second, written(&certificate)?);
    client.get(&url).send().await?.error_for_status()?;

    let good = fs::read(&certificate)?;
    fs::write(&certificate, "nonsense")?;
    server.signal("HUP")?;
    for _ in 0..5 {
        assert_eq!(shown(&server)?, second);
        std::thread::sleep(LOOK_EVERY);
    }
    fs::write(&certificate, good)?;
    let third = renew(&server)?;
    assert_eq!(third, written(&certificate)?);
    client.get(&url).send().await?.error_for_status()?;
    Ok(())
}
