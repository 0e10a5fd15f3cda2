//! The credentials file: which servers `wharf login` was used for, and the access token it got for each.
//!
//! Invariant: no password is kept; a file that others can read is refused, and none is written that they could.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const FILE: &str = "credentials.toml";

/// Where the file is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// Folder of `credentials.toml` [default: ~/.config/wharf]
    #[arg(
        long,
        global = true,
        env = "WHARF_CONFIG_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = super::client::SERVER_OPTIONS
    )]
    config_dir: Option<PathBuf>,
    #[arg(long, global = true, env = "XDG_CONFIG_HOME", hide = true, hide_env_values = true)]
    xdg_config_home: Option<PathBuf>,
}

/// What a request proves who it is with.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Password { user: String, password: String },
    Token(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Secret::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    #[error("there is no home folder to keep credentials in; hint: `--config-dir DIR` or WHARF_CONFIG_DIR")]
    NoHome,
    #[error("cannot {what} `{}`: {cause}", path.display())]
    File { what: &'static str, path: PathBuf, cause: io::Error },
    #[error("`{0}` can be read by others; hint: `chmod 600 {0}`")]
    Exposed(String),
    #[error("`{}` is not a credentials file: {why}; hint: remove it and `wharf login` again", path.display())]
    Form { path: PathBuf, why: String },
}

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// The server of commands that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default, rename = "server")]
    servers: BTreeMap<String, Entry>,
}

/// What is kept for one server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) user: String,
    /// The access token's text.
    pub(super) token: String,
    /// Its name on the server, where `wharf login` made it and `wharf logout` is to revoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
}

impl Place {
    /// Path of the file, which need not exist.
    ///
    /// # Errors
    /// Where nothing says where to keep it.
    pub(super) fn file(&self) -> Result<PathBuf, CredentialsError> {
        let folder = match (&self.config_dir, &self.xdg_config_home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(folder)) if folder.is_absolute() => folder.join("wharf"),
            _ => std::env::home_dir()
                .filter(|home| home.is_absolute())
                .ok_or(CredentialsError::NoHome)?
                .join(".config/wharf"),
        };
        Ok(folder.join(FILE))
    }
}

impl Credentials {
    /// Reads the file; nothing is known where there is none.
    ///
    /// # Errors
    /// Where it cannot be read, can be read by others or is not of this form.
    pub(super) fn load(path: &Path) -> Result<Self, CredentialsError> {
        let failed = |cause| CredentialsError::File { what: "read", path: path.to_owned(), cause };
        let form = |why: String| CredentialsError::Form { path: path.to_owned(), why };
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::default()),
            found => found.map_err(failed)?,
        };
        if found.permissions().mode() & 0o077 != 0 {
            return Err(CredentialsError::Exposed(path.display().to_string()));
        }
        if found.len() > FILE_BYTES_MAX {
            return Err(form(format!("it has {} bytes", found.len())));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        toml::from_str(&text).map_err(|error| form(error.message().to_owned()))
    }

    /// Writes the file whole, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), CredentialsError> {
        let failed = |cause| CredentialsError::File { what: "write", path: path.to_owned(), cause };
        let text = toml::to_string(self)
            .map_err(|error| CredentialsError::Form { path: path.to_owned(), why: error.to_string() })?;
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let new = path.with_extension("toml.new");
        // What a killed login left there may have other permissions.
        let _ = fs::remove_file(&new);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, path).map_err(failed)
    }

    pub(super) fn default_server(&self) -> Option<&str> {
        self.default.as_deref()
    }

    pub(super) fn server(&self, base: &Url) -> Option<&Entry> {
        self.servers.get(name(base))
    }

    /// Keeps what a login got; the server becomes the default one.
    pub(super) fn put(&mut self, base: &Url, entry: Entry) {
        self.default = Some(name(base).to_owned());
        self.servers.insert(name(base).to_owned(), entry);
    }

    /// Forgets a server.
    pub(super) fn remove(&mut self, base: &Url) -> Option<Entry> {
        let entry = self.servers.remove(name(base));
        if self.default.as_deref() == Some(name(base)) {
            self.default = None;
        }
        entry
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?}, …)", self.user)
    }
}

impl Entry {
    pub(super) fn secret(&self) -> Secret {
        Secret::Token(self.token.clone())
    }
}

fn name(base: &Url) -> &str {
    base.as_str().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let token = "wharf_pat_x".to_owned();
        Entry { user: "alice".into(), token, token_name: Some("cli".into()), ca: None }
    }

    #[test]
    fn a_login_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er").join(FILE);
        let base: Url = "https://registry.example.com".parse().unwrap();
        let mut kept = Credentials::load(&path).unwrap();
        assert_eq!(kept.default_server(), None);
        kept.put(&base, entry());
        kept.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let mut read = Credentials::load(&path).unwrap();
        assert_eq!(read.default_server(), Some("https://registry.example.com"));
        assert_eq!(read.server(&base), Some(&entry()));
        assert_eq!(read.remove(&base), Some(entry()));
        read.save(&path).unwrap();
        assert_eq!(Credentials::load(&path).unwrap(), Credentials::default());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        Credentials::default().save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::load(&path), Err(CredentialsError::Exposed(_))));
    }

    #[test]
    fn a_damaged_file_names_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        Credentials::default().save(&path).unwrap();
        fs::write(&path, "password = 1").unwrap();
        let error = Credentials::load(&path).unwrap_err().to_string();
        assert!(error.contains("credentials.toml") && error.contains("password"), "{error}");
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let secret = Secret::Password { user: "alice".into(), password: "hunter2".into() };
        let shown = format!("{secret:?} {:?} {:?}", Secret::Token("wharf_pat_x".into()), entry());
        assert!(!shown.contains("hunter2") && !shown.contains("wharf_pat_x"), "{shown}");
    }
}
