//! Who may do what, told from outside: the token protocol, access tokens, grants, TLS.

mod ended;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_tests::server::{binary, root};
use wharf_tests::{Image, Server, http, settings};

/// A call of the REST API as the administrator.
async fn rest(server: &Server, method: Method, path: &str, body: Value) -> Response {
    let request = http().request(method, format!("{}/api/v1{path}", server.url));
    request.basic_auth("admin", Some(&server.admin_password)).json(&body).send().await.unwrap()
}

async fn done(server: &Server, method: Method, path: &str, body: Value) -> Value {
    let answer = rest(server, method, path, body).await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

async fn add_user(server: &Server, name: &str, password: &str) {
    done(server, Method::POST, "/users", json!({"name": name, "password": password})).await;
}

async fn grant(server: &Server, subject: &str, role: &str, repository: &str) {
    let body = json!({"subject": subject, "role": role, "repository": repository});
    done(server, Method::POST, "/grants", body).await;
}

/// `/token`, with Basic credentials or none.
async fn token(server: &Server, who: Option<(&str, &str)>, query: &str) -> Response {
    let mut request = http().get(format!("{}/token?{query}", server.url));
    if let Some((user, password)) = who {
        request = request.basic_auth(user, Some(password));
    }
    request.send().await.unwrap()
}

async fn bearer(server: &Server, who: Option<(&str, &str)>, scope: &str) -> String {
    let answer = token(server, who, &format!("service=wharf&scope={scope}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["token"], answer["access_token"]);
    answer["token"].as_str().unwrap().to_owned()
}

async fn get(server: &Server, path: &str, bearer: &str) -> StatusCode {
    http().get(format!("{}{path}", server.url)).bearer_auth(bearer).send().await.unwrap().status()
}

fn challenge(answer: &Response) -> String {
    answer.headers()["www-authenticate"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_is_sent_to_the_token_and_gets_what_it_may() {
    let server = Server::start().unwrap();
    Image::debian("tzdata", "2024a").unwrap().push(&server, "dev/app", "1").await.unwrap();
    add_user(&server, "alice", "alice's own").await;
    grant(&server, "user:alice", "read", "dev/*").await;
    let alice = Some(("alice", "alice's own"));

    let manifest = "/v2/dev/app/manifests/1";
    let refused = http().get(format!("{}{manifest}", server.url)).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        challenge(&refused),
        format!(
            "Bearer realm=\"{}/token\",service=\"{}\",scope=\"repository:dev/app:pull\"",
            server.url,
            server.host()
        )
    );

    let pull = bearer(&server, alice, "repository:dev/app:pull,push").await;
    assert_eq!(get(&server, "/v2/", &pull).await, StatusCode::OK);
    assert_eq!(get(&server, manifest, &pull).await, StatusCode::OK);
    // What the token does not say is not open to it, even where its user may.
    let other = bearer(&server, alice, "repository:dev/other:pull").await;
    assert_eq!(get(&server, manifest, &other).await, StatusCode::UNAUTHORIZED);
    // Push was asked for and not granted.
    let push = http().post(format!("{}/v2/dev/app/blobs/uploads/", server.url)).bearer_auth(&pull);
    assert_eq!(push.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let push = http().post(format!("{}/v2/dev/app/blobs/uploads/", server.url));
    let push = push.basic_auth("alice", Some("alice's own")).send().await.unwrap();
    assert_eq!(push.status(), StatusCode::FORBIDDEN);

    let wrong = token(&server, Some(("alice", "not hers")), "scope=repository:dev/app:pull").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let malformed = token(&server, alice, "scope=dev/app").await;
    assert_eq!(malformed.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn anonymous_has_nothing_until_it_is_granted() {
    let server = Server::start().unwrap();
    Image::debian("tzdata", "2024a").unwrap().push(&server, "public/app", "1").await.unwrap();
    let manifest = "/v2/public/app/manifests/1";
    let nobody = bearer(&server, None, "repository:public/app:pull").await;
    // A client that finds the base open asks for no credentials, so it must be open to this token.
    assert_eq!(get(&server, "/v2/", &nobody).await, StatusCode::OK);
    assert_eq!(get(&server, manifest, &nobody).await, StatusCode::UNAUTHORIZED);
    grant(&server, "anonymous", "read", "public/**").await;
    let nobody = bearer(&server, None, "repository:public/app:pull").await;
    assert_eq!(get(&server, manifest, &nobody).await, StatusCode::OK);
    let revoked = rest(
        &server,
        Method::DELETE,
        "/grants?subject=anonymous&role=read&repository=public/**",
        Value::Null,
    );
    assert_eq!(revoked.await.status(), StatusCode::NO_CONTENT);
    // The grant is gone, so the token that was signed for it is worth nothing at once.
    assert_eq!(get(&server, manifest, &nobody).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_refresh_token_stands_for_the_password_until_it_changes() {
    let server = Server::start().unwrap();
    add_user(&server, "alice", "alice's own").await;
    let form = |fields: &[(&str, &str)]| {
        let body = fields.iter().map(|(k, v)| format!("{k}={}", v.replace(' ', "+"))).collect::<Vec<_>>();
        let request = http().post(format!("{}/token", server.url)).body(body.join("&"));
        request.header("content-type", "application/x-www-form-urlencoded").send()
    };
    let first = form(&[
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "alice's own"),
        ("access_type", "offline"),
        ("service", "wharf"),
        ("client_id", "docker"),
    ]);
    let first: Value = first.await.unwrap().json().await.unwrap();
    let refresh = first["refresh_token"].as_str().unwrap();
    let again = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("service", "wharf")];
    let second: Value = form(&again).await.unwrap().json().await.unwrap();
    assert_eq!(get(&server, "/v2/", second["access_token"].as_str().unwrap()).await, StatusCode::OK);
    // It is good for nothing but to ask with.
    assert_eq!(get(&server, "/v2/", refresh).await, StatusCode::UNAUTHORIZED);

    done(&server, Method::PUT, "/users/alice/password", json!({"password": "alice's new one"})).await;
    assert_eq!(form(&again).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        get(&server, "/v2/", second["access_token"].as_str().unwrap()).await,
        StatusCode::UNAUTHORIZED
    );
}

/// Only what came in an `Authorization` header was counted.
#[tokio::test]
async fn a_wrong_refresh_token_is_counted_among_failed_logins() {
    let server = Server::start().unwrap();
    for wrong in ["x.y.z", "wharf_pat_nothing"] {
        let body = format!("grant_type=refresh_token&refresh_token={wrong}&service=wharf");
        let request = http().post(format!("{}/token", server.url)).body(body);
        let answer =
            request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let metrics = http().get(format!("{}/metrics", server.url));
    let metrics = metrics.basic_auth("admin", Some(&server.admin_password)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = r#"wharf_login_failures_total{reason="wrong"} 2"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

#[tokio::test]
async fn an_access_token_does_what_it_says_until_it_is_revoked() {
    let server = Server::start().unwrap();
    Image::debian("tzdata", "2024a").unwrap().push(&server, "dev/app", "1").await.unwrap();
    let body = json!({"name": "ci", "scopes": ["dev/*:pull"]});
    let made = done(&server, Method::POST, "/users/admin/tokens", body).await;
    let text = made["text"].as_str().unwrap();
    let listed = done(&server, Method::GET, "/users/admin/tokens", Value::Null).await;
    assert_eq!(listed["items"][0]["name"], "ci");
    assert!(!listed.to_string().contains(text));

    let manifest = format!("{}/v2/dev/app/manifests/1", server.url);
    let basic = http().get(&manifest).basic_auth("whoever", Some(text)).send().await.unwrap();
    assert_eq!(basic.status(), StatusCode::OK);
    assert_eq!(get(&server, "/v2/dev/app/manifests/1", text).await, StatusCode::OK);
    let signed = bearer(&server, Some(("ci", text)), "repository:dev/app:pull,push").await;
    assert_eq!(get(&server, "/v2/dev/app/manifests/1", &signed).await, StatusCode::OK);
    // Its user administers the server; the token does not, and can make none that does.
    let users = http().get(format!("{}/api/v1/users", server.url)).bearer_auth(text).send().await.unwrap();
    assert_eq!(users.status(), StatusCode::FORBIDDEN);
    let more = http().post(format!("{}/api/v1/users/admin/tokens", server.url)).bearer_auth(text);
    let more = more.json(&json!({"name": "wider"})).send().await.unwrap();
    assert_eq!(more.status(), StatusCode::FORBIDDEN);

    done(&server, Method::DELETE, "/users/admin/tokens/ci", Value::Null).await;
    for bearer in [text, &signed] {
        assert_eq!(get(&server, "/v2/dev/app/manifests/1", bearer).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn what_was_signed_before_a_crash_holds_after_it() {
    let mut server = Server::start().unwrap();
    let signed = bearer(&server, Some(("admin", &server.admin_password)), "registry:catalog:*").await;
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(get(&server, "/v2/_catalog", &signed).await, StatusCode::OK);
}

/// Runs a client with something on its standard input.
fn login(client: &str, arguments: &[&str], password: &str) -> Result<(), String> {
    let mut child = Command::new(client)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run `{client}`: {e}; hint: `bash tests/install.sh` installs it"));
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Pastes the lines that a server prints for a client's machine: one with nothing on it, and this folder for `/etc`.
fn paste(server: &Server, etc: &Path) {
    let lines = server.said.iter().skip_while(|line| !line.contains("its own authority")).skip(1);
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("  ")).collect();
    let script = lines.join("\n").replace("sudo ", "").replace("/etc/", &format!("{}/", etc.display()));
    let script = script.replace("wharf login", &format!("{} login", binary().display()));
    let output = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(etc)
        .envs([("WHARF_USER", "admin"), ("WHARF_PASSWORD", &*server.admin_password)])
        .env("WHARF_CONFIG_DIR", etc)
        .output()
        .unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(output.status.success(), "{script}\n{error}");
    let fingerprint = out.lines().find_map(|line| line.split_once("Fingerprint=")).expect("it is printed").1;
    assert!(script.contains(fingerprint), "{script}\n{out}");
}

/// By what the server prints, and by nothing else.
#[tokio::test]
async fn clients_trust_the_servers_own_authority_by_the_lines_that_it_prints() {
    let server = Server::start_with(&["--tls", "auto"]).unwrap();
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    paste(&server, folder.path());
    let certs = |client: &str| path(&format!("{client}/certs.d/{}", server.host()));
    assert_eq!(
        std::fs::read(format!("{}/ca.crt", certs("docker"))).unwrap(),
        std::fs::read(server.data().join("tls/ca.crt")).unwrap()
    );
    for client in ["skopeo", "podman"] {
        let (certs, auth) = (certs("containers"), path(&format!("{client}.json")));
        let with = |extra: &[&str]| {
            let mut arguments = vec!["login", "--username", "admin", "--password-stdin", "--authfile", &auth];
            arguments.extend(extra);
            arguments.push(server.host());
            arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let trusting = with(&["--cert-dir", &certs]);
        let trusting: Vec<&str> = trusting.iter().map(String::as_str).collect();
        let doubting = with(&[]);
        let doubting: Vec<&str> = doubting.iter().map(String::as_str).collect();
        let unknown = login(client, &doubting, &server.admin_password).unwrap_err();
        assert!(unknown.contains("x509"), "{client}: {unknown}");
        let wrong = login(client, &trusting, "wrong").unwrap_err();
        assert!(
            wrong.contains("invalid username/password") || wrong.contains("unauthorized"),
            "{client}: {wrong}"
        );
        login(client, &trusting, &server.admin_password).unwrap();
    }
}

#[tokio::test]
async fn secrets_stay_out_of_the_log_and_the_store() {
    let folder = TempDir::new().unwrap();
    let file = settings(folder.path(), "[log]\nlevel = \"trace\"\n");
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let mut child = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--config", &file, "--data"])
        .arg(&data)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let url = loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if let Some(line) = said.lines().find_map(|line| line.split_once("listening on ")) {
            break line.1.to_owned();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let admin = std::fs::read_to_string(data.join("initial-admin-password")).unwrap();
    let admin = admin.trim();
    let call = |path: &str, body: Value| {
        let request = http().post(format!("{url}/api/v1{path}")).basic_auth("admin", Some(admin));
        request.json(&body).send()
    };
    call("/users", json!({"name": "alice", "password": "alice-s-secret"})).await.unwrap();
    let made: Value = call("/users/alice/tokens", json!({"name": "ci"})).await.unwrap().json().await.unwrap();
    let text = made["text"].as_str().unwrap();
    let answer = http().get(format!("{url}/token?scope=repository:a:pull")).basic_auth("x", Some(text));
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    let signed = answer["token"].as_str().unwrap();
    for wrong in ["alice-s-secrey", "wharf_pat_guess"] {
        http().get(format!("{url}/v2/")).basic_auth("alice", Some(wrong)).send().await.unwrap();
    }
    http().get(format!("{url}/v2/")).bearer_auth(signed).send().await.unwrap();
    // HTTP/2 has its own code for headers, with log lines of its own.
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();
    http2.get(format!("{url}/v2/")).basic_auth("alice", Some("alice-s-secret")).send().await.unwrap();
    http2.get(format!("{url}/v2/")).bearer_auth(signed).send().await.unwrap();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();

    let log = std::fs::read_to_string(&log).unwrap();
    let store = std::fs::read(data.join("meta.redb")).unwrap();
    let holds =
        |haystack: &[u8], needle: &str| haystack.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(holds(&store, "argon2id"), "the search finds nothing at all");
    for secret in ["alice-s-secret", "alice-s-secrey", "wharf_pat_guess", text, signed] {
        assert!(!holds(&store, secret), "`{secret}` is in the store");
        assert!(!holds(log.as_bytes(), secret), "`{secret}` is in the log");
        let encoded = base64(&format!("alice:{secret}"));
        assert!(!holds(log.as_bytes(), &encoded), "`{secret}` is in the log, encoded");
    }
    // Shown once, to whoever started the server for the first time.
    assert_eq!(log.matches(admin).count(), 1);
}

fn base64(text: &str) -> String {
    let output = Command::new("base64").arg("--wrap=0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = output.unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn the_administrator_is_reset_on_the_machine_while_no_server_runs() {
    let mut server = Server::start().unwrap();
    let data = server.data().to_str().unwrap().to_owned();
    let reset = || {
        Command::new(binary()).args(["admin", "reset", "--data", &data, "--output", "json"]).output().unwrap()
    };
    let busy = reset();
    assert!(!busy.status.success());
    let said = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(said.contains("in use") && said.contains("hint:"), "{said}");
    server.stop().unwrap();
    let old = server.admin_password.clone();
    let done = reset();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let new = std::fs::read_to_string(server.data().join("initial-admin-password")).unwrap();
    assert_ne!(new.trim(), old);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["user"], &told["password"]), (&json!("admin"), &json!(new.trim())));
    server.restart().unwrap();
    let who = |password: &str| {
        let output = Command::new(binary())
            .args(["status", "--output", "json"])
            .env("WHARF_SERVER", &server.url)
            .env("WHARF_USER", "admin")
            .env("WHARF_PASSWORD", password)
            .current_dir(root())
            .output();
        output.unwrap().status.success()
    };
    assert!(who(new.trim()));
    assert!(!who(&old));
}

/// Whoever is granted nothing learns nothing: of no repository, user, grant, token, binding, job or refused file.
#[tokio::test]
async fn a_user_without_grants_sees_nothing() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("plugins")).unwrap();
    std::fs::write(folder.path().join("plugins/hidden.wasm"), "no plugin").unwrap();
    let server = Server::start_in(folder.path(), &[]).unwrap();
    Image::debian("tzdata", "2024a").unwrap().push(&server, "hidden/app", "hidden").await.unwrap();
    add_user(&server, "hidden", "hidden's own").await;
    add_user(&server, "nobody", "nobody's own").await;
    grant(&server, "user:hidden", "write", "hidden/*").await;
    done(&server, Method::POST, "/users/hidden/tokens", json!({"name": "hidden"})).await;
    let told = |login: (&'static str, String), path: String| {
        let url = format!("{}{path}", server.url);
        async move {
            let answer = http().get(url).basic_auth(login.0, Some(login.1)).send().await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        }
    };
    let nobody = || ("nobody", "nobody's own".to_owned());
    let admin = || ("admin", server.admin_password.clone());
    let lists = [
        "/api/v1/status",
        "/api/v1/users",
        "/api/v1/users/hidden",
        "/api/v1/users/hidden/tokens",
        "/api/v1/grants",
        "/api/v1/refusals",
        "/api/v1/events?order=newest",
        "/api/v1/events?repository=hidden/*",
        "/api/v1/jobs",
        "/api/v1/repositories",
        "/api/v1/repositories?pattern=hidden/*",
        "/api/v1/quotas?namespace=hidden",
        "/api/v1/bindings",
        "/api/v1/images",
        "/api/v1/images?repository=hidden/*",
        "/api/v1/images?cursor=hidden/app:",
        "/api/v1/plugins",
        "/api/v1/vulnerability-data",
        "/metrics",
        "/v2/_catalog",
    ];
    let mut shown_to_the_administrator = 0;
    for path in lists {
        let (status, text) = told(nobody(), path.to_owned()).await;
        let refused = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&status);
        assert!(refused || (status == StatusCode::OK && !text.contains("hidden")), "{path}: {status} {text}");
        let (_, text) = told(admin(), path.to_owned()).await;
        shown_to_the_administrator += usize::from(text.contains("hidden"));
    }
    assert!(shown_to_the_administrator > 10, "the search finds little at all");
    // Not even how busy the server is.
    let (_, text) = told(nobody(), "/api/v1/status".to_owned()).await;
    assert!(text.contains("version") && !text.contains("commits"), "{text}");
    // What there is and what there is not look alike.
    for path in [
        "/api/v1/images/facts?image=NAME/app:hidden",
        "/api/v1/images/bom?image=NAME/app:hidden",
        "/api/v1/images/findings?image=NAME/app:hidden",
        "/api/v1/decisions?image=NAME/app:hidden",
        "/api/v1/decisions/explain?image=NAME/app:hidden",
        "/api/v1/decisions/1?image=NAME/app:hidden",
        "/v2/NAME/app/manifests/hidden",
        "/v2/NAME/app/tags/list",
    ] {
        let (there, said) = told(nobody(), path.replace("NAME", "hidden")).await;
        let (not, of_nothing) = told(nobody(), path.replace("NAME", "absent")).await;
        assert_eq!(
            (there, said.replace("hidden", "absent")),
            (not, of_nothing.replace("hidden", "absent")),
            "{path}"
        );
        assert!(there.is_client_error(), "{path}: {there} {said}");
    }
}

/// Wrong passwords are kept for the administrator, on whichever way they came.
#[tokio::test]
async fn wrong_passwords_are_seen_wherever_they_are_tried() {
    let server = Server::start().unwrap();
    for path in ["/token", "/v2/", "/api/v1/status"] {
        let tried = http().get(format!("{}{path}", server.url)).basic_auth("alice", Some("a guess"));
        assert_eq!(tried.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let found = loop {
        let list = done(&server, Method::GET, "/refusals", Value::Null).await;
        match list["items"].as_array().map(Vec::len) {
            Some(3..) => break list,
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    for item in found["items"].as_array().unwrap() {
        assert_eq!((item["by"].as_str(), item["action"].as_str()), (Some("alice"), Some("log-in")), "{item}");
    }
    assert!(!found.to_string().contains("a guess"), "{found}");
}

/// Whoever looks after the server could not tell a user who was suspended from one who had forgotten the password.
#[tokio::test]
async fn a_refused_login_of_a_suspended_user_says_so_to_the_administrator_alone() {
    let server = Server::start().unwrap();
    add_user(&server, "alice", "alice's own").await;
    done(&server, Method::PUT, "/users/alice/suspension", json!({"suspended": true})).await;
    let mut answers = Vec::new();
    for password in ["alice's own", "a guess"] {
        let tried = http().get(format!("{}/api/v1/status", server.url)).basic_auth("alice", Some(password));
        answers.push(tried.send().await.unwrap().text().await.unwrap());
    }
    assert_eq!(answers[0], answers[1]);
    let reasons = loop {
        let list = done(&server, Method::GET, "/refusals", Value::Null).await;
        let items = list["items"].as_array().unwrap();
        match items.len() {
            2.. => break items.iter().map(|item| item["reason"].clone()).collect::<Vec<_>>(),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    for reason in ["the user is suspended", "the user name or password is wrong"] {
        assert!(reasons.iter().any(|found| found == reason), "{reasons:?}");
    }
}

/// A socket that is closed over bytes which were not read resets its connection, and the answer went with it.
#[test]
fn whoever_sends_all_before_reading_hears_why_it_was_refused() {
    const BYTES: usize = 32 * 1024 * 1024;
    let server = Server::start().unwrap();
    let mut stream = TcpStream::connect(server.host()).unwrap();
    let head = format!(
        "POST /api/v1/vulnerability-data?source=x HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {}\r\n\
         content-length: {BYTES}\r\nconnection: close\r\n\r\n",
        server.host(),
        base64("admin:not this one")
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![0; BYTES]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("password is wrong"), "{answer}");
}
