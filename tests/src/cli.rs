//! The command line, as somebody at a terminal and a script use it: the real binary against a real server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_tests::server::binary;
use wharf_tests::{Image, Server};

/// Runs a command as whoever the arguments and the environment given here say; none of the caller's own is seen.
fn wharf(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let output = Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()?;
    Ok(output)
}

/// Exit status and standard error.
fn ended(output: &Output) -> (i32, String) {
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn json(text: &str) -> Result<Value> {
    Ok(serde_json::from_str(text)?)
}

#[test]
fn a_login_is_kept_until_logout_revokes_it() -> Result<()> {
    let server = Server::start()?;
    let folder = TempDir::new()?;
    let config = folder.path().to_str().unwrap_or_default();
    let known = [("WHARF_CONFIG_DIR", config)];
    let password = [known[0], ("WHARF_USER", "admin"), ("WHARF_PASSWORD", &*server.admin_password)];

    let (status, error) = ended(&wharf(&["status", "--server", &server.url], &known)?);
    ensure!(status == 5 && error.contains("hint: `wharf login` logs in"), "{status} {error}");

    let (status, error) = ended(&wharf(&["login", &server.url], &password)?);
    ensure!(status == 0, "{error}");
    let kept = std::fs::read_to_string(folder.path().join("credentials.toml"))?;
    ensure!(!kept.contains(&server.admin_password), "the password is kept: {kept}");

    // No address and no credentials any more: both come from the login.
    let output = wharf(&["status", "--output", "json"], &known)?;
    let found = json(&String::from_utf8(output.stdout)?)?;
    ensure!(found["caller"]["user"] == "admin" && found["caller"]["administers"] == true, "{found}");

    ensure!(ended(&wharf(&["logout"], &known)?).0 == 0);
    // The token itself is dead, not only forgotten.
    let tokens = json(&server.wharf(&["token", "ls", "--output", "json"])?)?;
    ensure!(tokens.as_array().is_some_and(Vec::is_empty), "{tokens}");
    Ok(())
}

/// What only changes something told people of it, and programs nothing.
#[test]
fn whatever_was_done_is_one_value_for_programs() -> Result<()> {
    let server = Server::start()?;
    let check = |line: &str, expected: Value| -> Result<()> {
        let arguments: Vec<&str> = line.split(' ').chain(["--output", "json"]).collect();
        let told = json(&server.wharf(&arguments)?)?;
        for (name, value) in expected.as_object().into_iter().flatten() {
            ensure!(told[name] == *value, "`wharf {line}` told {told}, not {expected}");
        }
        Ok(())
    };
    let (active, disabled) =
        (json!({"name": "ci", "suspended": false}), json!({"name": "ci", "suspended": true}));
    check("user add ci --service", active.clone())?;
    check("user disable ci", disabled)?;
    check("user enable ci", active)?;
    let granted = json!({"subject": "user:ci", "role": "read", "repository": "dev/*"});
    check("grant add ci read dev/*", granted.clone())?;
    check("grant rm ci read dev/*", granted)?;
    check("token create t --of ci", json!({"name": "t", "user": "ci"}))?;
    check("token revoke t --of ci", json!({"name": "t", "user": "ci", "removed": true}))?;
    let set = json!({"repository": "dev/app", "immutable_tags": ["v*"], "exists": false});
    check("repo set dev/app --immutable v*", set)?;
    check("plugin rescan", json!({"rescan": "asked"}))?;
    check("user rm ci", json!({"name": "ci", "removed": true}))
}

#[test]
fn the_exit_status_tells_how_it_ended() -> Result<()> {
    let server = Server::start()?;
    let admin = [
        ("WHARF_SERVER", &*server.url),
        ("WHARF_USER", "admin"),
        ("WHARF_PASSWORD", &*server.admin_password),
        ("WHARF_CONFIG_DIR", "/nonexistent"),
    ];
    let wrong = [admin[0], admin[1], ("WHARF_PASSWORD", "wrong"), admin[3]];
    let away = [("WHARF_SERVER", "http://127.0.0.1:1"), admin[1], admin[2], admin[3]];
    let check = |arguments: &[&str], environment: &[(&str, &str)], expected: i32, says: &str| -> Result<()> {
        let (status, error) = ended(&wharf(arguments, environment)?);
        ensure!(
            status == expected && error.contains(says),
            "`wharf {}` ended with {status}: {error}",
            arguments.join(" ")
        );
        ensure!(!error.contains("panicked"), "{error}");
        Ok(())
    };
    check(&["status"], &admin, 0, "")?;
    check(&["--no-such-option"], &admin, 2, "unexpected argument")?;
    check(&["grant", "add", "alice", "owner", "dev/*"], &admin, 2, "hint: read, write, maintain or admin")?;
    check(&["user", "add", "admin", "--service"], &admin, 3, "there is a user `admin` already")?;
    check(&["user", "rm", "nobody"], &admin, 4, "hint: `wharf user ls`")?;
    check(&["policy", "show", "nothing"], &admin, 4, "hint: `wharf policy ls`")?;
    check(&["repo", "set", "dev/app", "--mutable"], &admin, 0, "`dev/app`, which is not there yet; hint:")?;
    check(&["image", "facts", "dev/app:1.0"], &admin, 4, "there is no tag `dev/app:1.0`")?;
    check(&["promote", "dev/app:1.0", "--to", "qa/app"], &admin, 4, "there is no tag `dev/app:1.0`")?;
    check(&["policy", "explain", "dev/app:1.0"], &admin, 4, "there is no tag `dev/app:1.0`")?;
    let no_decision = ["policy", "explain", "dev/app:1.0", "--decision", "7"];
    check(&no_decision, &admin, 4, "hint: `wharf policy explain dev/app:1.0 --history`")?;
    check(&["policy", "replay"], &admin, 0, "")?;
    check(&["policy", "replay", "--binding", "nothing"], &admin, 4, "hint: `wharf policy ls`")?;
    check(&["policy", "replay", "--plugin", "nothing"], &admin, 4, "hint: `wharf plugin ls`")?;
    check(&["policy", "replay", "--repository", "dev/*"], &admin, 2, "invalid value 'dev/*'")?;
    check(&["events", "--kind", "image-push"], &admin, 2, "there is no kind of event `image-push`")?;
    check(&["image", "ls", "--limit", "0"], &admin, 2, "0 is not in 1..=1000000")?;
    check(&["events", "--limit", "0"], &admin, 2, "hint: with --follow")?;
    check(&["image", "facts", "Not An Image"], &admin, 2, "is not a valid")?;
    check(&["status"], &wrong, 5, "the user name or password is wrong")?;
    check(&["status"], &away, 6, "hint: is the server running?")?;
    Ok(())
}

/// A proxy whose server is gone was told as a wrong address.
#[test]
fn what_answers_in_place_of_the_server_is_told() -> Result<()> {
    let check = |answer: &'static str, expected: i32, says: &str| -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let proxy = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            // The head of a request comes in one piece.
            match stream.read(&mut [0; 4096])? {
                0 => Ok(()),
                _ => stream.write_all(answer.as_bytes()),
            }
        });
        let known = [("WHARF_CONFIG_DIR", "/nonexistent")];
        let (status, error) = ended(&wharf(&["status", "--server", &url], &known)?);
        ensure!(matches!(proxy.join(), Ok(Ok(()))), "the proxy failed");
        ensure!(status == expected && error.contains(says), "{status} {error}");
        Ok(())
    };
    let gone = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    check(gone, 6, "hint: a proxy answers there")?;
    let moved =
        "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://example.com/\r\ncontent-length: 0\r\n\r\n";
    check(moved, 2, "it answered 308 Permanent Redirect, which leads to `https://example.com/`")
}

/// Regression: a certificate that is not trusted ended as a server that is away does, which scripts wait for.
#[test]
fn a_certificate_that_is_not_trusted_is_not_worth_another_try() -> Result<()> {
    let server = Server::start_with(&["--tls", "auto"])?;
    let other = Server::start_with(&["--tls", "auto"])?;
    let ca = other.data().join("tls/ca.crt");
    let known = [("WHARF_CONFIG_DIR", "/nonexistent"), ("WHARF_CA", &*ca.to_string_lossy())];
    let (url, image) = (format!("https://{}", server.host()), format!("{}/dev/app:1.4", server.host()));
    for arguments in [&["status", "--server", &url][..], &["scan", &image]] {
        let (status, error) = ended(&wharf(arguments, &known)?);
        ensure!(status == 1 && error.contains("hint: `--ca FILE` names"), "{arguments:?}: {status} {error}");
    }
    Ok(())
}

/// A large import with a wrong password was once told as a server that is gone.
#[test]
fn a_wrong_login_is_told_before_anything_is_sent() -> Result<()> {
    let server = Server::start()?;
    let folder = TempDir::new()?;
    let file = folder.path().join("all.zip");
    std::fs::write(&file, vec![0; 32 * 1024 * 1024])?;
    let (file, folder) = (file.to_str().unwrap_or_default(), folder.path().to_str().unwrap_or_default());
    let with = |password| {
        let server = ("WHARF_SERVER", &*server.url);
        [server, ("WHARF_USER", "admin"), ("WHARF_PASSWORD", password), ("WHARF_CONFIG_DIR", folder)]
    };
    let (status, error) = ended(&wharf(&["db", "import", file], &with("wrong"))?);
    ensure!(status == 5 && error.contains("the user name or password is wrong"), "{status} {error}");
    ensure!(!error.contains("sending"), "{error}");
    let (status, error) = ended(&wharf(&["db", "import", folder], &with(&server.admin_password))?);
    ensure!(status == 2 && error.contains("is not a regular file"), "{status} {error}");
    Ok(())
}

/// What a terminal shows while a password is asked for and `interrupt` ends that, given the keys and the process.
fn interrupted_password(interrupt: impl Fn(&mut ChildStdin, &str) -> Result<()>) -> Result<String> {
    let folder = TempDir::new()?;
    // The shell stays to tell of the terminal that `script` makes for both.
    let story = format!(
        "trap : INT; sh -c 'echo process $$; exec \"$0\" login --user admin http://127.0.0.1:1' '{}'; echo ended with $?; stty -a",
        binary().display()
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &story, "/dev/null"])
        .env_remove("WHARF_PASSWORD")
        .env_remove("WHARF_TOKEN")
        .env("SHELL", "/bin/sh")
        .env("WHARF_CONFIG_DIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `script`; hint: it is of util-linux")?;
    let (mut keys, mut screen) = (
        terminal.stdin.take().context("the terminal's keys")?,
        terminal.stdout.take().context("the terminal's screen")?,
    );
    let (mut seen, mut byte) = (String::new(), [0]);
    let mut typed = false;
    while screen.read(&mut byte)? > 0 {
        seen.push(char::from(byte[0]));
        if !typed && seen.ends_with("password of admin: ") {
            let process = seen.lines().find_map(|line| line.strip_prefix("process "));
            interrupt(&mut keys, process.context("a process")?)?;
            typed = true;
        }
    }
    terminal.wait()?;
    ensure!(typed && !seen.contains("half"), "{seen}");
    ensure!(seen.contains(" echo ") && seen.contains("intr = ^C;"), "{seen}");
    Ok(seen)
}

/// Ctrl-C while a password is typed once left the terminal without echo.
#[test]
fn an_interrupted_password_leaves_the_terminal_as_it_was() -> Result<()> {
    let seen = interrupted_password(|keys, _| Ok(keys.write_all(b"half a passw\x03")?))?;
    // With 130, but for whoever runs the tests where SIGINT is ignored.
    ensure!(seen.contains("ended with ") && !seen.contains("ended with 0"), "{seen}");
    Ok(())
}

/// So did a signal from elsewhere.
#[test]
fn a_password_that_a_signal_ends_leaves_the_terminal_as_it_was() -> Result<()> {
    for (signal, status) in [("TERM", 143), ("HUP", 129)] {
        let seen = interrupted_password(|keys, process| {
            keys.write_all(b"half a passw")?;
            ensure!(Command::new("kill").args(["-s", signal, process.trim()]).status()?.success());
            Ok(())
        })?;
        ensure!(seen.contains(&format!("ended with {status}")), "{signal}: {seen}");
    }
    Ok(())
}

/// One's own password needs the present one, and standard input brought one alone.
#[test]
fn ones_own_password_is_changed_from_standard_input() -> Result<()> {
    let server = Server::start()?;
    let folder = TempDir::new()?;
    let known = [("WHARF_CONFIG_DIR", folder.path().to_str().unwrap_or_default())];
    let with = |password| [known[0], ("WHARF_USER", "admin"), ("WHARF_PASSWORD", password)];
    ensure!(ended(&wharf(&["login", &server.url], &with(&server.admin_password))?).0 == 0);
    let passwd = |input: &str| -> Result<(i32, String)> {
        let mut command = Command::new(binary());
        command.args(["user", "passwd", "--password-stdin"]).env_clear().envs(known);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
        Ok(ended(&child.wait_with_output()?))
    };
    let (status, error) = passwd(&format!("{}\n", server.admin_password))?;
    ensure!(
        status == 2 && error.contains("hint: the present password, then the new one"),
        "{status} {error}"
    );
    let (status, error) = passwd("not this one\na new password\n")?;
    ensure!(status == 5 && error.contains("is not the password of now"), "{status} {error}");
    let (status, error) = passwd(&format!("{}\na new password\n", server.admin_password))?;
    ensure!(status == 0, "{error}");
    let (status, error) = ended(&wharf(&["status", "--server", &server.url], &with("a new password"))?);
    ensure!(status == 0, "{error}");
    Ok(())
}

/// Whoever has no terminal was not told what to do without one.
#[test]
fn a_login_without_a_terminal_says_how() -> Result<()> {
    let folder = TempDir::new()?;
    let known = [("WHARF_CONFIG_DIR", folder.path().to_str().unwrap_or_default())];
    let (status, error) = ended(&wharf(&["login", "http://127.0.0.1:1"], &known)?);
    ensure!(status == 2 && error.contains("hint: `--user NAME --password-stdin`"), "{status} {error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_whole_across_pages() -> Result<()> {
    let server = Server::start()?;
    let image = Image::new(&[&[("etc/os-release", "ID=debian\n")]])?;
    for n in 0..7 {
        image.push(&server, &format!("dev/app{}", n % 3), &format!("1.{n}")).await?;
    }
    let all = json(&server.wharf(&["image", "ls", "--output", "json"])?)?;
    let names = |list: &Value| -> Vec<String> {
        let of = |image: &Value| format!("{}:{}", image["repository"], image["tag"]).replace('"', "");
        list.as_array().into_iter().flatten().map(of).collect()
    };
    let expected = [
        "dev/app0:1.0",
        "dev/app0:1.3",
        "dev/app0:1.6",
        "dev/app1:1.1",
        "dev/app1:1.4",
        "dev/app2:1.2",
        "dev/app2:1.5",
    ];
    ensure!(names(&all) == expected, "{all}");

    // Pages of every size put together are the same list.
    let http = wharf_tests::http();
    for limit in 1..=7 {
        let (mut found, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let url = format!("{}/api/v1/images?limit={limit}", server.url);
            let mut request = http.get(url).basic_auth("admin", Some(&server.admin_password));
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let page: Value = request.send().await?.json().await?;
            found.extend(names(&page["items"]));
            cursor = page["next"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        ensure!(found == expected, "pages of {limit}: {found:?}");
    }
    let one = json(&server.wharf(&["image", "ls", "dev/app1", "--output", "json"])?)?;
    ensure!(names(&one) == ["dev/app1:1.1", "dev/app1:1.4"], "{one}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_is_never_a_failure_of_the_server() -> Result<()> {
    let server = Server::start()?;
    let http = wharf_tests::http();
    let long = "x".repeat(5000);
    let requests: &[(&str, &str, &str)] = &[
        ("GET", "events?limit=0", ""),
        ("GET", "events?limit=1001", ""),
        ("GET", "events?cursor=nonsense", ""),
        ("GET", "events?order=sideways", ""),
        ("GET", "events?wait_s=31", ""),
        ("GET", "events?repository=**x**//", ""),
        ("GET", "jobs?queue=nothing", ""),
        ("GET", "jobs?cursor=nothing.live.", ""),
        ("GET", "jobs/show?id=judge", ""),
        ("GET", "jobs/show?id=judge/%00/", ""),
        ("GET", "images?cursor=%00", ""),
        ("GET", "images/facts?image=%F0%9F%92%A9", ""),
        ("GET", "images/facts", ""),
        ("GET", "images/findings?image=dev/app:1&cursor=-1", ""),
        ("GET", "decisions?image=dev/app:1&cursor=x", ""),
        ("GET", "decisions/nothing?image=dev/app:1", ""),
        ("PUT", "bindings/Wrong%20Name", "{}"),
        ("PUT", "bindings/right", "not json"),
        ("PUT", "bindings/right", r#"{"repositories":"","policies":[],"targets":[]}"#),
        ("POST", "promotions", r#"{"from":"a","to":"b"}"#),
        ("POST", "jobs/cancel", r#"{"id":"///"}"#),
        ("POST", "decisions/replay", r#"{"limit":-1}"#),
        ("POST", "vulnerability-data?source=", "{}"),
        ("POST", "vulnerability-data?source=x", "not a zip"),
        ("PUT", "repositories", r#"{"repository":"dev/app","immutable_tags":["a/b"]}"#),
        ("PUT", "quotas", r#"{"namespace":"dev/app"}"#),
        ("DELETE", "status", ""),
        ("GET", "nothing/at/all", ""),
    ];
    let long = ("GET", format!("plugins/{long}"));
    let all = requests.iter().map(|(method, path, body)| (*method, (*path).to_owned(), *body));
    for (method, path, body) in all.chain([(long.0, long.1, "")]) {
        let response = http
            .request(method.parse()?, format!("{}/api/v1/{path}", server.url))
            .basic_auth("admin", Some(&server.admin_password))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_client_error(), "{method} {path} {body}: {status} {text}");
        let error: Value = serde_json::from_str(&text)?;
        ensure!(
            error["error"]["code"].is_string() && error["error"]["message"].is_string(),
            "{path}: {text}"
        );
    }
    Ok(())
}

#[test]
fn a_follower_sees_what_happens_next() -> Result<()> {
    use std::io::{BufRead as _, BufReader};
    let server = Server::start_with(&[])?;
    let mut follower = Command::new(binary())
        .args(["events", "--follow", "--output", "json", "--limit", "1"])
        .env("WHARF_SERVER", &server.url)
        .env("WHARF_USER", "admin")
        .env("WHARF_PASSWORD", &server.admin_password)
        .env("WHARF_CONFIG_DIR", "/nonexistent")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let Some(out) = follower.stdout.take() else { anyhow::bail!("no standard output") };
    let mut lines = BufReader::new(out).lines();
    let mut next = || -> Result<Value> {
        match lines.next() {
            Some(line) => json(&line?),
            None => anyhow::bail!("the follower ended"),
        }
    };
    let told = next();
    server.wharf(&["user", "add", "ci", "--service"])?;
    let seen = next();
    let _ = follower.kill();
    let _ = follower.wait();
    ensure!(told?["id"].is_string());
    let seen = seen?;
    ensure!(seen["kind"] == "user-added" && seen["user"] == "ci", "{seen}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_settings_file_is_one_value_for_programs() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("wharf.toml");
    let check = |text: &str, expected: i32, lines: Value| -> Result<()> {
        std::fs::write(&file, text)?;
        let shown = file.to_str().context("a path of text")?;
        let output = wharf(&["config", "check", shown, "--output", "json"], &[])?;
        let told = json(std::str::from_utf8(&output.stdout)?)?;
        let problems = told["problems"].as_array().context("no problems")?;
        let found: Vec<&Value> = problems.iter().map(|problem| &problem["line"]).collect();
        ensure!(ended(&output).0 == expected && json!(found) == lines && told["file"] == shown, "{told}");
        Ok(())
    };
    check("listen = 'here'\nlisen = 'there'\n", 2, json!([1, 2]))?;
    check("listen = '127.0.0.1:5080'\n", 0, json!([]))
}

/// Two files were two documents at a server, and without one a document of another shape.
#[test]
fn an_import_of_several_files_is_one_value_for_programs() -> Result<()> {
    let server = Server::start()?;
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let record = |id: String, ecosystem: &str| {
        json!({"id": id, "modified": "2026-11-01T00:00:00Z",
            "affected": [{"package": {"ecosystem": ecosystem, "name": "hello"}, "versions": ["1"]}]})
    };
    for name in ["one", "two"] {
        let records = [record(format!("CVE-{name}"), "Debian:12"), record(format!("GO-{name}"), "Go")];
        std::fs::write(path(name), json!(records).to_string())?;
    }
    let (one, two, db) = (path("one"), path("two"), path("own.db"));
    let import = ["db", "import", &one, &two, "--output", "json"];
    let at_server = json(&server.wharf(&import)?)?;
    let in_file = json(&server.wharf(&[&import[..], &["--db", &db]].concat())?)?;
    ensure!(at_server["version"].is_string() && in_file["version"].is_string(), "{at_server} {in_file}");
    let expected = json!({"records": 4, "kept": 2, "undecided": 0, "withdrawn": 0, "malformed": 0, "described": [],
        "others": {"Go": 2}, "exploited": 0, "removed": []});
    for mut told in [at_server, in_file] {
        told.as_object_mut().context("an object")?.remove("version");
        ensure!(told == expected, "{told}");
    }
    Ok(())
}

/// A list that ended at its limit looked whole.
#[test]
fn events_behind_another_say_that_there_are_more() -> Result<()> {
    let server = Server::start()?;
    for name in ["a", "b", "c"] {
        server.wharf(&["user", "add", name, "--service"])?;
    }
    let ids = |lines: &str| -> Result<Vec<String>> {
        lines.lines().map(|line| Ok(json(line)?["id"].as_str().unwrap_or_default().to_owned())).collect()
    };
    let users = ["events", "--kind", "user-added", "--output", "json"];
    let all = ids(&server.wharf(&users)?)?;
    let [first, rest @ ..] = all.as_slice() else { anyhow::bail!("no events") };
    let check = |limit: usize, shown: &[String], says: &str| -> Result<()> {
        let limit = limit.to_string();
        let known = [
            ("WHARF_SERVER", &*server.url),
            ("WHARF_USER", "admin"),
            ("WHARF_PASSWORD", &*server.admin_password),
            ("WHARF_CONFIG_DIR", "/nonexistent"),
        ];
        let output = wharf(&[&users[..], &["--after", first, "--limit", &limit]].concat(), &known)?;
        let (status, said) = ended(&output);
        ensure!(status == 0 && said == says, "with --limit {limit}: {status} {said}");
        ensure!(ids(&String::from_utf8(output.stdout)?)? == shown, "with --limit {limit}");
        Ok(())
    };
    let (whole, part) = (rest.len(), rest.len() - 1);
    check(whole, rest, "")?;
    let says = format!("there are more; hint: --limit N, or --after {}\n", rest[part - 1]);
    check(part, &rest[..part], &says)
}

#[test]
fn a_refused_file_is_listed_for_as_long_as_it_is_there() -> Result<()> {
    let server = Server::start()?;
    let file = server.data().join("plugins/typo.wasm");
    let listed = |arguments: &[&str], wanted: bool| -> Result<()> {
        let until = Instant::now() + Duration::from_secs(180);
        loop {
            let list = server.wharf(arguments)?;
            if list.contains("refused `typo.wasm`") == wanted {
                return Ok(());
            }
            ensure!(Instant::now() < until, "`wharf {}` says: {list}", arguments.join(" "));
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    std::fs::write(&file, "no plugin")?;
    listed(&["plugin", "ls"], true)?;
    std::fs::remove_file(&file)?;
    listed(&["plugin", "ls"], false)?;
    listed(&["plugin", "ls", "--all"], true)
}
