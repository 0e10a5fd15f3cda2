//! Logins that docker, podman and skopeo keep: docker's `config.json` and containers-auth.json(5), as far as they stand there.
//!
//! Invariant: no other program is run, so what a credential helper keeps is not known here; where a file names one, that is said.
//! Invariant: an error names the file and the registry, and nothing of a login.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use serde::Deserialize;

use crate::cli::credentials::Secret;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the files are.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct AuthFiles {
    /// Logins of docker, podman or skopeo [default: podman's `auth.json`, then docker's `config.json`]
    #[arg(long, env = "REGISTRY_AUTH_FILE", hide_env_values = true, value_name = "FILE", value_parser = path())]
    authfile: Option<PathBuf>,
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, hide_env_values = true, value_parser = path())]
    xdg_runtime_dir: Option<PathBuf>,
    #[arg(long, env = "DOCKER_CONFIG", hide = true, hide_env_values = true, value_parser = path())]
    docker_config: Option<PathBuf>,
}

/// A path, which in a variable of the environment may be empty and then names nothing.
fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// What the files say of one repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// A token here is one of docker's identity tokens, for which a token server gives another (OAuth 2).
    pub(super) secret: Option<Secret>,
    /// The credential helper that keeps the login instead.
    pub(super) helper: Option<String>,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthFileError {
    #[error("cannot read `{}`: {cause}", path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("`{}` has more than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    // What serde says may quote a value.
    #[error("`{}` is no file of logins: line {line}, column {column}", path.display())]
    Form { path: PathBuf, line: usize, column: usize },
    #[error("the login for `{key}` in `{}` is not `USER:PASSWORD` in base64", path.display())]
    Login { path: PathBuf, key: String },
}

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl AuthFiles {
    /// The login for a repository. `names` are those of its registry.
    ///
    /// # Errors
    /// Where a file is there and cannot be used, or the one that was named is not there.
    pub(super) fn login(&self, names: &[&str], repository: &str) -> Result<Login, AuthFileError> {
        let mut found = Login::default();
        let (files, is_named) = self.files();
        for file in files {
            let logins = match Logins::load(&file) {
                Err(AuthFileError::File { cause, .. })
                    if cause.kind() == io::ErrorKind::NotFound && !is_named =>
                {
                    continue;
                }
                loaded => loaded?,
            };
            found.secret = logins.secret(&file, names, repository)?;
            if found.secret.is_some() {
                return Ok(Login { helper: None, ..found });
            }
            found.helper = found.helper.or_else(|| logins.helper(names));
        }
        Ok(found)
    }

    /// The files in the order they count, and whether the caller named one.
    fn files(&self) -> (Vec<PathBuf>, bool) {
        let named = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        if let Some(file) = named(&self.authfile) {
            return (vec![file], true);
        }
        let podman = named(&self.xdg_runtime_dir).map(|folder| folder.join("containers/auth.json"));
        let docker = named(&self.docker_config).or_else(|| Some(std::env::home_dir()?.join(".docker")));
        (podman.into_iter().chain(docker.map(|folder| folder.join("config.json"))).collect(), false)
    }
}

impl Logins {
    fn load(path: &Path) -> Result<Self, AuthFileError> {
        let failed = |cause| AuthFileError::File { path: path.to_owned(), cause };
        let mut text = Vec::new();
        File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(AuthFileError::TooLarge(path.to_owned()));
        }
        serde_json::from_slice(&text).map_err(|error| AuthFileError::Form {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    fn secret(&self, path: &Path, names: &[&str], repository: &str) -> Result<Option<Secret>, AuthFileError> {
        let entry = names.iter().find_map(|name| self.entry(name, repository));
        entry.map_or(Ok(None), |(key, entry)| {
            entry.secret().map_err(|()| AuthFileError::Login { path: path.to_owned(), key: key.to_owned() })
        })
    }

    /// Podman keeps logins for a repository or a part of them, too: the longest name that fits counts. Docker's oldest keys are
    /// addresses.
    fn entry(&self, registry: &str, repository: &str) -> Option<(&str, &Entry)> {
        let full = format!("{registry}/{repository}");
        let ends = full.match_indices('/').map(|(at, _)| at).filter(|at| *at >= registry.len());
        let ends: Vec<usize> = ends.chain([full.len()]).collect();
        let by_name = ends.into_iter().rev().find_map(|end| self.auths.get_key_value(&full[..end]));
        let host = |key: &str| {
            let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"))?;
            Some(rest.split('/').next().unwrap_or_default() == registry)
        };
        let found = by_name.or_else(|| self.auths.iter().find(|(key, _)| host(key) == Some(true)));
        found.map(|(key, entry)| (key.as_str(), entry))
    }

    fn helper(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.helpers.get(*name)).or(self.store.as_ref()).cloned()
    }
}

impl Entry {
    /// `None` for an entry that only says that a helper has the login.
    fn secret(&self) -> Result<Option<Secret>, ()> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Secret::Token(self.identity_token.clone())));
        }
        if self.auth.is_empty() {
            let login = Secret::Password { user: self.username.clone(), password: self.password.clone() };
            return Ok(Some(login).filter(|_| !self.username.is_empty()));
        }
        let text = STANDARD.decode(&self.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or(())?;
        // Some of docker's versions leave zeros behind the password.
        let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or(())?;
        Ok(Some(Secret::Password { user: user.to_owned(), password: password.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file of this content, as `$DOCKER_CONFIG/config.json`, says.
    fn login(content: &str, names: &[&str], repository: &str) -> Result<Login, AuthFileError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), content).unwrap();
        let files = AuthFiles { docker_config: Some(folder.path().to_owned()), ..AuthFiles::default() };
        files.login(names, repository)
    }

    fn password(user: &str, password: &str) -> Login {
        let secret = Secret::Password { user: user.to_owned(), password: password.to_owned() };
        Login { secret: Some(secret), helper: None }
    }

    fn auth(text: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text))
    }

    #[test]
    fn a_login_is_found_by_the_names_that_tools_keep_it_under() {
        let (all, dev, old, plain) =
            (auth("all:1:2"), auth("dev:3\0"), auth("old:4"), r#"{"username":"u","password":"p"}"#);
        let content = format!(
            r#"{{"auths":{{"r.example.com":{all},"r.example.com/dev":{dev},"https://old.example.com/v1/":{old},
                "https://index.docker.io/v1/":{plain},"r.example.com:5000":{{"identitytoken":"t"}}}}}}"#
        );
        let hub = ["https://index.docker.io/v1/", "docker.io"];
        let token = Login { secret: Some(Secret::Token("t".into())), helper: None };
        let cases: [(&[&str], &str, Login); 7] = [
            (&["r.example.com"], "qa/app", password("all", "1:2")),
            (&["r.example.com"], "dev/app", password("dev", "3")),
            (&["r.example.com"], "device/app", password("all", "1:2")),
            (&["r.example.com:5000"], "dev/app", token),
            (&["old.example.com"], "app", password("old", "4")),
            (&hub, "library/debian", password("u", "p")),
            (&["example.com"], "app", Login::default()),
        ];
        for (names, repository, expected) in cases {
            assert_eq!(login(&content, names, repository).unwrap(), expected, "{names:?} {repository}");
        }
    }

    #[test]
    fn a_credential_helper_is_named_and_not_run() {
        let content = r#"{"auths":{"a.example.com":{}},"credsStore":"desktop","credHelpers":{"b.example.com":"ecr-login"}}"#;
        for (name, expected) in [("a.example.com", "desktop"), ("b.example.com", "ecr-login")] {
            let found = login(content, &[name], "app").unwrap();
            assert_eq!(found, Login { secret: None, helper: Some(expected.to_owned()) });
        }
    }

    #[test]
    fn podmans_file_goes_before_dockers_and_the_one_named_alone_counts() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, user: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!(r#"{{"auths":{{"r.example.com":{}}}}}"#, auth(user))).unwrap();
            path
        };
        let own = put("own.json", "own:1");
        let mut files = AuthFiles {
            authfile: Some(PathBuf::new()),
            xdg_runtime_dir: Some(folder.path().to_owned()),
            docker_config: Some(folder.path().to_owned()),
        };
        let of = |files: &AuthFiles| files.login(&["r.example.com"], "app");
        assert_eq!(of(&files).unwrap(), Login::default());
        put("config.json", "docker:1");
        assert_eq!(of(&files).unwrap(), password("docker", "1"));
        put("containers/auth.json", "podman:1");
        assert_eq!(of(&files).unwrap(), password("podman", "1"));
        files.authfile = Some(own);
        assert_eq!(of(&files).unwrap(), password("own", "1"));
        files.authfile = Some(folder.path().join("none.json"));
        assert!(matches!(of(&files), Err(AuthFileError::File { .. })));
    }

    #[test]
    fn no_error_shows_a_secret() {
        for content in [
            r#"{"auths":{"r.example.com":"hunter2"}}"#,
            r#"{"auths":{"r.example.com":{"auth":"hunter2!"}}}"#,
            r#"{"auths":{"r.example.com":{"auth":"aHVudGVyMg=="}}}"#,
            r#"{"auths":{"r.example.com":{"password":["hunter2"]}}}"#,
            r#"{"auths":{"r.example.com":{"auth":"hunter2"#,
        ] {
            let error = login(content, &["r.example.com"], "app").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            assert!(error.to_string().contains("config.json"), "{error}");
        }
    }
}
