//! A real `wharf serve` on loopback, in a folder of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How long a server may take to be ready, on a loaded machine.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The `wharf` binary of this tree, built once for each test run by the cargo that built the tests. The whole workspace is
/// named because a smaller selection would unify other features and build every dependency a second time.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--workspace", "--all-targets"])
            .current_dir(root())
            .status();
        assert!(built.is_ok_and(|status| status.success()), "`cargo build --workspace --all-targets` failed");
        // This test binary is target/PROFILE/deps/integration-HASH.
        let test = std::env::current_exe().expect("the path of this test binary");
        test.ancestors().nth(2).expect("the profile's folder").join("wharf")
    })
}

/// A settings file in `folder` over which a server can be started.
pub fn settings(folder: &Path, text: &str) -> String {
    let file = folder.join("wharf.toml");
    std::fs::write(&file, text).expect("a settings file is written");
    file.to_string_lossy().into_owned()
}

/// One running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    data: Data,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    pub admin_password: String,
    /// What it printed before it listened, line by line.
    pub said: Vec<String>,
    arguments: Vec<String>,
}

/// Whose folder the data is.
#[derive(Debug)]
enum Data {
    Own(TempDir),
    Given(PathBuf),
}

impl Server {
    /// Starts a server with nothing but a data folder and a port that the kernel picks.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with more arguments to `wharf serve`.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::launch(
            Data::Own(TempDir::new()?),
            arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        )
    }

    /// Starts a server over a data folder that stays when the server is dropped.
    pub fn start_in(data: &Path, arguments: &[&str]) -> Result<Self> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::launch(Data::Given(data.to_owned()), arguments)
    }

    fn launch(data: Data, arguments: Vec<String>) -> Result<Self> {
        let folder = match &data {
            Data::Own(folder) => folder.path(),
            Data::Given(folder) => folder.as_path(),
        };
        let Started { child, url, said } = serve(folder, &arguments)?;
        let password_file = folder.join("initial-admin-password");
        let admin_password = std::fs::read_to_string(&password_file)
            .with_context(|| format!("cannot read `{}`", password_file.display()))?;
        Ok(Server { child, url, admin_password: admin_password.trim().to_owned(), said, data, arguments })
    }

    pub fn data(&self) -> &Path {
        match &self.data {
            Data::Own(folder) => folder.path(),
            Data::Given(folder) => folder,
        }
    }

    /// `127.0.0.1:PORT`, as image references need it.
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("http://").trim_start_matches("https://")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, then waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the graceful end.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let ended = self.ended()?;
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status()?;
        ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Starts the server again over the same data, on a port of its own, after [`Server::kill`] or [`Server::stop`].
    pub fn restart(&mut self) -> Result<()> {
        let Started { child, url, said } = serve(self.data(), &self.arguments)?;
        (self.child, self.url, self.said) = (child, url, said);
        Ok(())
    }

    /// Runs a `wharf` command as the administrator of this server.
    pub fn wharf(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(binary())
            .args(arguments)
            .env("WHARF_SERVER", &self.url)
            .env("WHARF_USER", "admin")
            .env("WHARF_PASSWORD", &self.admin_password)
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`wharf {}` ended with {}: {stderr}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that listens.
struct Started {
    child: Child,
    url: String,
    said: Vec<String>,
}

/// Spawns the server and waits for its line `listening on URL` on standard error.
fn serve(data: &Path, arguments: &[String]) -> Result<Started> {
    let mut child = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().context("the server's standard error")?;
    let (sender, lines) = mpsc::channel();
    // The thread drains the pipe until the server ends, or a chatty server would block on it.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + READY_WITHIN;
    let mut said = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some((_, url)) = line.split_once("listening on ") {
            return Ok(Started { child, url: url.trim().to_owned(), said });
        }
        said.push(line);
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!("the server was not ready within {READY_WITHIN:?}; it said:\n{}", said.join("\n"))
}
