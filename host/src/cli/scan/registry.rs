//! An image in a registry, pulled just far enough to be scanned (OCI distribution specification, "Pull").
//!
//! Logins are those of `wharf login` and of docker, podman and skopeo.
//!
//! Invariant: a password goes to the registry it is for and to the token server that this registry names, over TLS or
//! loopback; never along a redirect.
//! Invariant: documents are bounded and compared with their digests; layers are compared by the scan.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use reqwest::{Client, RequestBuilder, Response, Url};
use serde::Deserialize;
use wharf_oci::{
    Descriptor, Digest, MANIFEST_BYTES_MAX, Manifest, ManifestKind, MediaType, Platform, Reference, Target,
};
use wharf_scan::target::{fits, this_machine};

use super::auth_file::AuthFiles;
use crate::cli::client::CA_HINT;
use crate::cli::credentials::{self, Credentials, CredentialsError, Secret};
use crate::cli::exit::{Stop, is_untrusted};
use crate::scan::Input;

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const READ_WITHIN: Duration = Duration::from_secs(60);
const CONFIG_BYTES_MAX: usize = 4 << 20;
const TOKEN_BYTES_MAX: usize = 64 << 10;
const INDEX_DEPTH: u32 = 4;
/// Steps from a registry to where it keeps its blobs.
const REDIRECTS: u32 = 4;
const CA_BYTES_MAX: u64 = 1 << 20;
/// Docker Hub as images name it, and its registry; images of one part are its own.
const HUB: &str = "docker.io";
const HUB_REGISTRY: &str = "registry-1.docker.io";
const HUB_OWN: &str = "library";
/// What logins to Docker Hub are kept under.
const HUB_LOGINS: &[&str] = &["https://index.docker.io/v1/", "index.docker.io", HUB, HUB_REGISTRY];

/// How to reach a registry, and as whom.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub(super) struct Access {
    /// User to log in to the registry as, with the password in WHARF_PASSWORD; without it, the one of `wharf login`, else of
    /// docker, podman or skopeo
    #[arg(long, env = "WHARF_USER", hide_env_values = true, value_name = "NAME")]
    user: Option<String>,
    #[arg(long, env = "WHARF_PASSWORD", hide = true, hide_env_values = true, requires = "user")]
    password: Option<String>,
    /// Certificates (PEM) that the registry's certificate must be signed by, instead of the system's
    #[arg(long, env = "WHARF_CA", hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak HTTP without TLS to a registry that is not on this machine
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    files: AuthFiles,
    #[command(flatten)]
    place: credentials::Place,
}

impl Access {
    /// What earlier logins (`wharf login`) left; a machine without a home folder has none.
    fn logins(&self) -> Result<Credentials, CredentialsError> {
        self.place.file().map_or_else(|_| Ok(Credentials::default()), |path| Credentials::load(&path))
    }
}

/// An image that was found, its layers still to be fetched.
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Input>,
}

/// Finds the image that `text` (`HOST[:PORT]/REPOSITORY:TAG` or `@DIGEST`) names, for `platform` or this machine's.
pub(super) async fn find(text: &str, platform: Option<&Platform>, access: &Access) -> anyhow::Result<Image> {
    let (host, reference) = split(text)?;
    let registry = Registry::new(host, &reference, access)?;
    let (digest, manifest, config) = registry.image(&reference.target, platform).await?;
    let layers = manifest.layers.into_iter().map(|layer| {
        if layer.media_type.is_foreign() {
            return Input { descriptor: layer, bytes: None };
        }
        let (registry, digest) = (registry.clone(), layer.digest.clone());
        Input::of_stream(layer, async move {
            let response = registry.blob(&digest).await.map_err(io::Error::other)?;
            Ok(response.bytes_stream().map_err(io::Error::other).boxed())
        })
    });
    Ok(Image { digest, config, layers: layers.collect() })
}

fn split(text: &str) -> anyhow::Result<(&str, Reference)> {
    let hint = "hint: a path that exists, or `registry.example.com/dev/app:1.4`";
    let parts = text.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    let Some((host, rest)) = parts else {
        bail!("`{text}` is neither on this machine nor a registry's; {hint}")
    };
    let (host, rest) = match (host, rest.contains('/')) {
        (HUB, false) => (HUB_REGISTRY, format!("{HUB_OWN}/{rest}")),
        (HUB, true) => (HUB_REGISTRY, rest.to_owned()),
        _ => (host, rest.to_owned()),
    };
    Ok((host, rest.parse().with_context(|| format!("`{text}`"))?))
}

/// One repository of one registry.
#[derive(Debug, Clone)]
struct Registry {
    http: Client,
    base: Url,
    repository: String,
    login: Option<Secret>,
    /// Docker's credential helper that keeps the login, which is not run.
    helper: Option<String>,
    /// A bearer token once the registry asked for one.
    token: std::sync::Arc<tokio::sync::Mutex<Option<String>>>,
}

impl Registry {
    fn new(host: &str, reference: &Reference, access: &Access) -> anyhow::Result<Self> {
        let address = |scheme| {
            Url::parse(&format!("{scheme}://{host}/")).with_context(|| format!("`{host}` is no address"))
        };
        let logins = access.logins()?;
        let secure = address("https")?;
        // On this machine plain HTTP is usual, unless something says that this registry has a certificate.
        let usual = is_here(&secure) && access.ca.is_none() && logins.server(&secure).is_none();
        let base = if access.plain_http || usual { address("http")? } else { secure };
        let own = logins.server(&base);
        let password =
            |user: &str, password: &str| Secret::Password { user: user.into(), password: password.into() };
        let mut login = match (&access.user, &access.password) {
            (Some(user), Some(word)) => Some(password(user, word)),
            (Some(user), None) => bail!("`{user}` needs a password; hint: set WHARF_PASSWORD"),
            // An access token stands in the password's place.
            (None, _) => own.map(|own| password(&own.user, &own.token)),
        };
        let ca = access.ca.as_deref().or(own.and_then(|own| own.ca.as_deref()));
        let safe = is_private(&base);
        ensure!(
            login.is_none() || safe,
            "a password is not sent without TLS; hint: leave out `--plain-http`"
        );
        let repository = reference.repository.to_string();
        let mut helper = None;
        // Nobody asked to send what others left, so without TLS it is left alone.
        if login.is_none() && safe {
            let names = if host == HUB_REGISTRY { HUB_LOGINS } else { &[host] };
            let found = access.files.login(names, &repository)?;
            (login, helper) = (found.secret, found.helper);
        }
        Ok(Registry {
            http: client(ca, base.scheme())?,
            base,
            repository,
            login,
            helper,
            token: std::sync::Arc::default(),
        })
    }

    /// Manifest and configuration of one image: chosen of an index by platform, or the only one there is.
    async fn image(
        &self,
        target: &Target,
        platform: Option<&Platform>,
    ) -> anyhow::Result<(Digest, Manifest, Vec<u8>)> {
        let (mut target, mut is_chosen) = (target.clone(), false);
        for _ in 0..INDEX_DEPTH {
            let (digest, manifest) = self.manifest(&target).await?;
            if manifest.kind == ManifestKind::Image {
                ensure!(manifest.is_container_image(), "`{target}` is an artifact, not a container image");
                let config = manifest.config.as_ref().context("the image has no configuration")?;
                let config = self.config(config).await.context("cannot fetch the image's configuration")?;
                if let Some(wanted) = platform.filter(|_| !is_chosen) {
                    check(wanted, &config)?;
                }
                return Ok((digest, manifest, config));
            }
            target = Target::Digest(choose(&manifest.manifests, platform)?);
            is_chosen = true;
        }
        bail!("indexes are nested deeper than {INDEX_DEPTH}")
    }

    async fn manifest(&self, target: &Target) -> anyhow::Result<(Digest, Manifest)> {
        let accept = [
            MediaType::OCI_MANIFEST,
            MediaType::OCI_INDEX,
            MediaType::DOCKER_MANIFEST,
            MediaType::DOCKER_LIST,
        ];
        let url = self.url("manifests", &target.to_string())?;
        let request = self.http.get(url).header(ACCEPT, accept.join(", "));
        let response = self.call(request).await.with_context(|| {
            let mark = if matches!(target, Target::Tag(_)) { ':' } else { '@' };
            format!("cannot fetch `{}{mark}{target}`", self.repository)
        })?;
        let media_type = text(response.headers(), CONTENT_TYPE.as_str());
        let media_type = media_type.and_then(|t| t.split(';').next()?.trim().parse::<MediaType>().ok());
        let bytes = body(response, MANIFEST_BYTES_MAX).await?;
        let digest = Digest::sha256(&bytes);
        if let Target::Digest(wanted) = target {
            ensure!(wanted.matches(&bytes), "the registry's `{wanted}` does not have this digest");
        }
        let digest = if let Target::Digest(wanted) = target { wanted.clone() } else { digest };
        Ok((digest, Manifest::parse(&bytes, media_type.as_ref())?))
    }

    async fn config(&self, config: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let bytes = body(self.blob(&config.digest).await?, CONFIG_BYTES_MAX).await?;
        ensure!(
            config.digest.matches(&bytes),
            "the registry's `{}` does not have this digest",
            config.digest
        );
        Ok(bytes)
    }

    async fn blob(&self, digest: &Digest) -> anyhow::Result<Response> {
        let mut response = self.call(self.http.get(self.url("blobs", digest.as_str())?)).await?;
        for _ in 0..REDIRECTS {
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = text(response.headers(), LOCATION.as_str()).context("a redirect without a place")?;
            let to = response.url().join(&to)?;
            ensure!(to.scheme() == "https" || response.url().scheme() == "http", "a redirect away from TLS");
            // Where blobs are kept is another's place: it gets no credentials.
            response = self.refuse(send(self.http.get(to)).await?)?;
        }
        bail!("more than {REDIRECTS} redirects")
    }

    fn url(&self, kind: &str, name: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(&format!("v2/{}/{kind}/{name}", self.repository))?)
    }

    /// Sends a request, with a token where the registry asks for one.
    async fn call(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let again = request.try_clone();
        let response = send(self.authorized(request).await).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.refuse(response);
        }
        let (Some(challenge), Some(again)) = (text(response.headers(), WWW_AUTHENTICATE.as_str()), again)
        else {
            return self.refuse(response);
        };
        let Some(challenge) = Challenge::parse(&challenge) else { return self.refuse(response) };
        let token = self.fetch_token(&challenge).await.context("cannot log in to the registry")?;
        *self.token.lock().await = Some(token);
        self.refuse(send(self.authorized(again).await).await?)
    }

    async fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match (&*self.token.lock().await, &self.login) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some(Secret::Password { user, password })) => request.basic_auth(user, Some(password)),
            // An identity token is for the token server alone.
            (None, Some(Secret::Token(_)) | None) => request,
        }
    }

    async fn fetch_token(&self, challenge: &Challenge) -> anyhow::Result<String> {
        let url = Url::parse(&challenge.realm)?;
        ensure!(
            url.scheme() == "https" || self.base.scheme() == "http",
            "its token server does not speak TLS"
        );
        ensure!(
            self.login.is_none() || is_private(&url),
            "a password is not sent without TLS, and its token server is at `{url}`; hint: log in to a registry whose token \
             server speaks TLS"
        );
        let mut fields = vec![("scope", format!("repository:{}:pull", self.repository))];
        fields.extend(challenge.service.clone().map(|service| ("service", service)));
        let request = match &self.login {
            Some(Secret::Token(token)) => {
                fields.push(("grant_type", "refresh_token".to_owned()));
                fields.push(("client_id", "wharf".to_owned()));
                fields.push(("refresh_token", token.clone()));
                let form = serde_urlencoded::to_string(&fields)?;
                self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            }
            Some(Secret::Password { user, password }) => {
                self.http.get(url).query(&fields).basic_auth(user, Some(password))
            }
            None => self.http.get(url).query(&fields),
        };
        let bytes = body(self.refuse(send(request).await?)?, TOKEN_BYTES_MAX).await?;
        let answer: TokenAnswer = serde_json::from_slice(&bytes)?;
        answer.token.or(answer.access_token).context("the token server gave no token")
    }

    /// An error for every status but success and redirection.
    fn refuse(&self, response: Response) -> anyhow::Result<Response> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(response);
        }
        let hint = match (status, &self.helper) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                "; hint: `wharf login`, or `--user NAME` and WHARF_PASSWORD".to_owned()
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(helper)) => format!(
                "; its login is kept by `docker-credential-{helper}`, and credential helpers are not run; hint: `wharf login`, or \
                 `--user NAME` and WHARF_PASSWORD"
            ),
            _ => String::new(),
        };
        Err(Stop::answered(status, format!("`{}` answers {status}{hint}", response.url())).into())
    }
}

/// Sends a request; says what helps where another try does not.
async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    request.send().await.map_err(|error| match is_untrusted(&error) {
        true => anyhow::Error::new(error).context(format!("its certificate is not trusted; hint: {CA_HINT}")),
        false => error.into(),
    })
}

/// On this machine.
fn is_here(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Whether a password may be sent there: nobody in between can read it.
fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_here(url)
}

/// What a token server answers (distribution's "token authentication").
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// `Bearer realm="…",service="…"`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |name: &str| {
            let at = rest.find(&format!("{name}=\""))? + name.len() + 2;
            Some(rest[at..].split('"').next()?.to_owned())
        };
        Some(Challenge { realm: value("realm")?, service: value("service") })
    }
}

fn client(ca: Option<&Path>, scheme: &str) -> anyhow::Result<Client> {
    // The first call of the process installs it, later ones find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(READ_WITHIN)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca {
        let shown = || format!("cannot use the certificates in `{}`", path.display());
        ensure!(std::fs::metadata(path).with_context(shown)?.len() <= CA_BYTES_MAX, "{}: too large", shown());
        let pem = std::fs::read(path).with_context(shown)?;
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).with_context(shown)?);
    } else if scheme == "http" {
        // Nothing to verify, so a machine without system certificates will do.
        builder = builder.tls_certs_only([]);
    }
    builder.build().context("cannot set up HTTP")
}

/// The one image of an index for a platform, or for this machine.
fn choose(entries: &[Descriptor], platform: Option<&Platform>) -> anyhow::Result<Digest> {
    let here = this_machine();
    let wanted = platform.unwrap_or(&here);
    let runs: Vec<(&Descriptor, &Platform)> = entries
        .iter()
        .filter_map(|entry| Some((entry, entry.platform.as_ref().filter(|p| !p.is_unknown())?)))
        .collect();
    match (runs.iter().find(|(_, found)| fits(wanted, found)), runs.as_slice(), entries) {
        (Some((entry, _)), ..) => Ok(entry.digest.clone()),
        (None, [(only, _)], _) if platform.is_none() => Ok(only.digest.clone()),
        (None, [], [only]) if platform.is_none() => Ok(only.digest.clone()),
        _ => {
            let there: Vec<String> = runs.iter().map(|(_, platform)| format!("`{platform}`")).collect();
            Err(Stop::not_found(format!(
                "there is no image for `{wanted}`; there are: {}; hint: `--platform`",
                there.join(", ")
            ))
            .into())
        }
    }
}

/// An image that no index names is for the platform that its configuration says.
fn check(wanted: &Platform, config: &[u8]) -> anyhow::Result<()> {
    let found: Platform = serde_json::from_slice(config).context("the image's configuration is not valid")?;
    if fits(wanted, &found) {
        return Ok(());
    }
    Err(Stop::not_found(format!("there is no image for `{wanted}`; there is `{found}`")).into())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

async fn body(mut response: Response, max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(bytes.len() + chunk.len() <= max, "`{}` has more than {max} bytes", response.url());
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header =
            r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="x""#;
        let expected = Challenge {
            realm: "https://auth.example.com/token".into(),
            service: Some("registry.example.com".into()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), None);
        assert_eq!(Challenge::parse("Bearer"), None);
    }

    proptest::proptest! {
        #[test]
        fn challenges_of_any_text_never_panic(rest in "(realm|service|=|\"|,|é){0,12}") {
            let _ = Challenge::parse(&format!("Bearer {rest}"));
        }
    }

    /// A registry on this machine could name one that is elsewhere, and the password went there in the clear.
    #[tokio::test]
    async fn a_password_goes_to_no_token_server_without_tls() {
        let registry = Registry {
            http: client(None, "http").unwrap(),
            base: Url::parse("http://127.0.0.1:5080/").unwrap(),
            repository: "dev/app".to_owned(),
            login: Some(Secret::Password { user: "alice".to_owned(), password: "secret".to_owned() }),
            helper: None,
            token: std::sync::Arc::default(),
        };
        let challenge =
            Challenge { realm: "http://auth.registry.example.com/token".to_owned(), service: None };
        let error = registry.fetch_token(&challenge).await.unwrap_err().to_string();
        assert!(error.starts_with("a password is not sent without TLS"), "{error}");
    }

    #[test]
    fn what_is_private_is_tls_or_loopback() {
        let check = |url: &str, expected: bool| {
            assert_eq!(is_private(&Url::parse(url).unwrap()), expected, "{url}");
        };
        check("https://registry.example.com/", true);
        check("http://registry.example.com/", false);
        check("http://127.0.0.1:5080/", true);
        check("http://[::1]:5080/", true);
        check("http://localhost/token", true);
        check("http://localhost.example.com/token", false);
        check("http://127.0.0.1@registry.example.com/", false);
    }

    #[test]
    fn a_reference_needs_a_host() {
        assert!(split("app:1.4").is_err());
        assert!(split("dev/app:1.4").is_err());
        let (host, reference) = split("127.0.0.1:5080/dev/app:1.4").unwrap();
        assert_eq!((host, reference.to_string().as_str()), ("127.0.0.1:5080", "dev/app:1.4"));
        assert!(split("localhost/app").is_err());
    }

    #[test]
    fn docker_hub_has_a_registry_of_another_name() {
        let of = |text: &str| split(text).map(|(host, reference)| format!("{host}/{reference}")).unwrap();
        assert_eq!(of("docker.io/debian:12"), "registry-1.docker.io/library/debian:12");
        assert_eq!(of("docker.io/grafana/grafana:12.0"), "registry-1.docker.io/grafana/grafana:12.0");
    }

    fn entry(platform: &str) -> Descriptor {
        let mut entry =
            Descriptor::new(MediaType::OCI_MANIFEST.parse().unwrap(), Digest::sha256(platform.as_bytes()), 1);
        entry.platform = Some(platform.parse().unwrap());
        entry
    }

    #[test]
    fn an_index_is_chosen_from_by_platform() {
        let all = [entry("linux/s390x"), entry("linux/riscv64"), entry("unknown/unknown")];
        let wanted: Platform = "linux/riscv64".parse().unwrap();
        assert_eq!(choose(&all, Some(&wanted)).unwrap(), all[1].digest);
        assert!(choose(&all, None).unwrap_err().to_string().contains("`linux/s390x`, `linux/riscv64`"));
        assert_eq!(choose(&all[..1], None).unwrap(), all[0].digest);
        assert!(choose(&all[..1], Some(&wanted)).is_err());
    }
}
