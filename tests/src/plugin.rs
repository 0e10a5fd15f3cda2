//! Plugins, told from outside: when the folder is looked at, and what one that means harm does to others.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::Value;
use tempfile::TempDir;
use wharf_tests::{Image, Server, http, server, settings};

/// How long something may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What nobody asked for looks at names, sizes and times alone: whoever opens a file that has not changed was asked to.
#[test]
fn the_folder_is_read_again_at_sighup_and_on_demand() {
    let asks: [fn(&Server) -> Result<()>; 2] =
        [|server| server.signal("HUP"), |server| server.wharf(&["plugin", "rescan"]).map(drop)];
    for ask in asks {
        let data = TempDir::new().unwrap();
        let file = data.path().join("plugins/p.wasm");
        fs::create_dir(data.path().join("plugins")).unwrap();
        // Refused for good, so that it is not tried again either.
        fs::write(&file, "no plugin").unwrap();
        let server = Server::start_in(data.path(), &[]).unwrap();
        until("the first look", || server.wharf(&["plugin", "ls"]).unwrap().contains("refused `p.wasm`"));
        let opens = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&opens, &file, WatchFlags::OPEN).unwrap();
        let mut opens = File::from(opens);
        ask(&server).unwrap();
        until("the look that was asked for", || opens.read(&mut [0; 1024]).is_ok());
    }
}

/// What the plugin of the tests does where it is told to, and what is said of the image then: one of these.
const HARM: [(&str, &[&str]); 11] = [
    ("loop", &["ran into its time limit"]),
    ("grow", &["ran into its memory limit"]),
    ("recurse", &["ran out of stack"]),
    ("panic", &["told to panic"]),
    ("exit", &["called `exit`"]),
    // It approves; its lines are dropped, and it has asked nothing.
    ("log-flood", &["the policy did not ask about"]),
    ("host-call-flood", &["ran into its limit of host calls", "ran into its limit of recorded questions"]),
    ("reason-flood", &["ran into its output limit"]),
    ("huge-error", &["ran into its output limit"]),
    // It says that it gives 1 GB, and has no such memory.
    ("lying-error", &["out of bounds", "ran into its output limit"]),
    ("error", &["no verdict today"]),
];

/// Images that are judged.
const IMAGES: usize = 2;

#[tokio::test]
async fn plugins_that_mean_harm_hold_their_own_images_while_others_are_pushed() {
    let (_folder, server) = &with_plugins();
    for (harm, _) in HARM {
        // The one that has no other end gets little time; all others have more than they need on a loaded machine.
        bind(server, harm, if harm == "loop" { "brief" } else { "guest" }, harm);
    }
    bind(server, "good", "guest", "ask");
    let image = |n: usize| (n.to_string(), Image::debian("judged", &n.to_string()).unwrap());
    let images: Vec<(String, Image)> = (0..IMAGES).map(image).collect();
    for (tag, image) in &images {
        image.push(server, "dev/app", tag).await.unwrap();
    }
    let other = Image::debian("other", "1").unwrap();
    let (mut left, mut since) = (usize::MAX, Instant::now());
    for n in 0.. {
        other.push(server, "other/app", &format!("v{n}")).await.unwrap();
        other.pull(server, "other/app", &format!("v{n}")).await.unwrap();
        let mut missing = Vec::new();
        for (tag, _) in &images {
            missing.extend(unjudged(&decisions(server, &format!("dev/app:{tag}")).await));
        }
        if missing.is_empty() {
            break;
        }
        if missing.len() < left {
            (left, since) = (missing.len(), Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "after {n} other pushes no such decision of {missing:?}");
    }
    for (tag, image) in &images {
        image.pull(server, "dev/app", tag).await.unwrap();
        image.pull(server, "good/app", tag).await.unwrap();
        for (harm, _) in HARM {
            let gone = image.pull(server, &format!("{harm}/app"), tag).await.unwrap_err();
            assert!(gone.to_string().contains("404"), "{harm}: {gone}");
        }
    }
}

/// A server with the plugin of the tests under two names: `guest` has all the time that may be given, `brief` little.
fn with_plugins() -> (TempDir, Server) {
    let folder = TempDir::new().unwrap();
    let (data, settings) =
        (folder.path().join("data"), settings(folder.path(), "[plugin]\ntime_ms = 60000\n"));
    let plugins = data.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("guest.wasm"), guest("guest")).unwrap();
    fs::write(plugins.join("brief.wasm"), guest("brief")).unwrap();
    fs::write(plugins.join("brief.toml"), "[limits]\ntime_ms = 200\n").unwrap();
    let server = Server::start_in(&data, &["--config", &settings]).unwrap();
    until("both plugins", || {
        let listed = server.wharf(&["plugin", "ls"]).unwrap();
        ["guest.wasm", "brief.wasm"].iter().all(|file| listed.contains(file))
    });
    (folder, server)
}

/// The plugin that does what its config says (`host/plugin/tests/guest`), under a name of five letters.
fn guest(name: &str) -> Vec<u8> {
    let target = server::root().join("target/guests");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--manifest-path", "host/plugin/tests/guest/Cargo.toml", "--target-dir"])
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(server::root())
        .status();
    assert!(built.is_ok_and(|status| status.success()), "hint: `rustup target add wasm32-wasip2`");
    let mut bytes = fs::read(target.join("wasm32-wasip2/release/wharf_test_guest.wasm")).unwrap();
    let (from, to) = (br#""name":"guest""#, format!(r#""name":"{name}""#));
    assert_eq!(from.len(), to.len());
    let windows = bytes.windows(from.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, window)| window == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "it has a manifest");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// Binds what is pushed to dev to a stage of the binding's name.
fn bind(server: &Server, name: &str, plugin: &str, does: &str) {
    let (to, config) = (format!("{name}/{{name}}"), format!(r#"{{"do":"{does}"}}"#));
    let bind = ["policy", "bind", name, "--from", "dev/*", "--to", &to];
    server.wharf(&[&bind[..], &["--plugin", plugin, "--config", &config]].concat()).unwrap();
}

/// All decisions about a tag: a policy that fails again and again is not asked for a while, which is another hold.
async fn decisions(server: &Server, image: &str) -> Vec<Value> {
    let url = format!("{}/api/v1/decisions?image={image}&limit=1000", server.url);
    let answer = http().get(url).basic_auth("admin", Some(&server.admin_password)).send().await.unwrap();
    let page: Value = answer.json().await.unwrap();
    page["items"].as_array().unwrap_or_else(|| panic!("decisions: {page}")).clone()
}

/// The bindings that have not decided as they should so far.
fn unjudged(decisions: &[Value]) -> Vec<&'static str> {
    let of = |binding: &'static str| decisions.iter().filter(move |decision| decision["binding"] == binding);
    let held = |(harm, reasons): &(&'static str, &[&str])| {
        of(harm).filter(|decision| decision["verdict"] == "hold").any(|decision| {
            let because = decision["policies"][0]["held-because"]["text"].as_str().unwrap_or_default();
            reasons.iter().any(|reason| because.contains(reason))
        })
    };
    let is_promoted = of("good").any(|decision| decision["effects"][0]["outcome"] == "promoted");
    let missing = HARM.iter().filter(|harm| !held(harm)).map(|(harm, _)| *harm);
    missing.chain((!is_promoted).then_some("good")).collect()
}
