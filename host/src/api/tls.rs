//! TLS: a certificate that is given, or one from a certificate authority of the server's own.
//!
//! With `--tls auto` the first start makes an authority in `DATA/tls/` (`ca.crt`, `ca.key`) and signs a certificate for
//! the names the server is reached by. It signs a new one when the names change and 30 days before the old one ends;
//! the authority holds ten years, and clients that trust it notice nothing.
//!
//! Invariant: private keys are readable by their owner alone (0600) and never leave the folder.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::civil::Date;
use jiff::{Span, Timestamp, Zoned, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::auth::write_private;
use crate::config::check_tls_name;

/// How long the authority holds, in years.
const AUTHORITY_YEARS: i64 = 10;
/// How long a server certificate holds, in days; clients refuse more than 825.
const SERVER_DAYS: i64 = 365;
/// A new one is signed this many days before the old one ends.
const RENEW_DAYS: i64 = 30;

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// An authority in this folder, for these host names and addresses.
    Auto {
        folder: PathBuf,
        names: Vec<String>,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("cannot write `{}`: {cause}", path.display())]
    Write { path: PathBuf, cause: io::Error },
    #[error("`{}` does not hold what it should: {why}", path.display())]
    Content { path: PathBuf, why: String },
    #[error("`{name}` is not a host name or an address: {why}")]
    Name { name: String, why: String },
    #[error("a certificate could not be made: {0}")]
    Make(rcgen::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        TlsError::Make(error)
    }
}

/// Accepts TLS with the certificate of the moment.
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    source: Source,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Tls {
    /// Reads or makes the certificate. Blocks on files.
    ///
    /// # Errors
    /// See [`TlsError`]; each names the file.
    pub fn open(source: Source) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(load(&source)?)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), current, source })
    }

    /// Reads the files again, and signs a new certificate where the old one ends soon. Blocks on files.
    ///
    /// # Errors
    /// See [`TlsError`]; the certificate stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.0.store(Arc::new(load(&self.source)?));
        Ok(())
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

/// SHA-256 of a certificate as `openssl x509 -fingerprint -sha256` prints it, `AB:CD:…`. Blocks on the file.
///
/// # Errors
/// Where it cannot be read, or holds no certificate in PEM.
pub fn fingerprint(certificate: &Path) -> Result<String, TlsError> {
    let der = CertificateDer::from_pem_slice(&read(certificate)?)
        .map_err(|e| TlsError::Content { path: certificate.to_owned(), why: e.to_string() })?;
    let digest = wharf_oci::Digest::sha256(&der);
    let bytes: Vec<String> =
        digest.hex().as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    Ok(bytes.join(":"))
}

fn load(source: &Source) -> Result<CertifiedKey, TlsError> {
    match source {
        Source::Files { certificate, key } => certified_key(certificate, key),
        Source::Auto { folder, names } => {
            sign_if_needed(folder, names)?;
            certified_key(&folder.join("server.crt"), &folder.join("server.key"))
        }
    }
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let content = |path: &Path, why: String| TlsError::Content { path: path.to_owned(), why };
    let pem = read(certificate)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|e| content(certificate, e.to_string()))?;
    if chain.is_empty() {
        return Err(content(certificate, "no certificate; hint: a PEM file, leaf first".into()));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|e| content(key, e.to_string()))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key_der, &provider).map_err(|e| content(key, e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Read { path: path.to_owned(), cause })
}

fn write(path: &Path, contents: &[u8]) -> Result<(), TlsError> {
    write_private(path, contents).map_err(|cause| TlsError::Write { path: path.to_owned(), cause })
}

/// What the server certificate was signed for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    names: Vec<String>,
    /// The day it ends, UTC.
    until: String,
}

fn sign_if_needed(folder: &Path, names: &[String]) -> Result<(), TlsError> {
    fs::create_dir_all(folder).map_err(|cause| TlsError::Write { path: folder.to_owned(), cause })?;
    let today = today();
    let record = folder.join("server.json");
    let signed: Option<Signed> = fs::read(&record).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let still = |signed: &Signed| {
        signed.names == names && signed.until.parse().is_ok_and(|until| plus_days(today, RENEW_DAYS) < until)
    };
    let files = ["ca.crt", "server.crt", "server.key"].iter().all(|name| folder.join(name).exists());
    if files && signed.as_ref().is_some_and(still) {
        return Ok(());
    }
    let authority = authority(folder, today)?;
    let key = KeyPair::generate()?;
    let until = plus_days(today, SERVER_DAYS);
    let mut params = CertificateParams::default();
    for name in names {
        let wrong = |why: String| TlsError::Name { name: name.clone(), why };
        check_tls_name(name).map_err(wrong)?;
        let one = CertificateParams::new(vec![name.clone()]).map_err(|e| wrong(e.to_string()))?;
        params.subject_alt_names.extend(one.subject_alt_names);
    }
    params.distinguished_name = distinguished("Wharf server");
    holds(&mut params, plus_days(today, -1), until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority)?;
    write(&folder.join("server.key"), key.serialize_pem().as_bytes())?;
    write(&folder.join("server.crt"), certificate.pem().as_bytes())?;
    // Last, so that what it says holds for the files.
    let signed = Signed { names: names.to_vec(), until: until.to_string() };
    let json = serde_json::to_vec(&signed)
        .map_err(|e| TlsError::Content { path: record.clone(), why: e.to_string() });
    write(&record, &json?)?;
    tracing::info!(?names, %until, "signed a server certificate");
    Ok(())
}

/// The authority of the folder, made where there is none.
fn authority(folder: &Path, today: Date) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let (certificate, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
    let known = key_file.exists() && certificate.exists();
    let key = if key_file.exists() {
        let pem = String::from_utf8_lossy(&read(&key_file)?).into_owned();
        let why = |e: rcgen::Error| TlsError::Content { path: key_file.clone(), why: e.to_string() };
        KeyPair::from_pem(&pem).map_err(why)?
    } else {
        let key = KeyPair::generate()?;
        write(&key_file, key.serialize_pem().as_bytes())?;
        key
    };
    let mut params = CertificateParams::default();
    // The name follows from the key, so that the issuer can be made again from the key alone.
    let id = wharf_oci::Digest::sha256(key.public_key_raw());
    params.distinguished_name = distinguished(&format!("Wharf CA {}", &id.hex()[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let years = Span::new().years(AUTHORITY_YEARS);
    holds(&mut params, plus_days(today, -1), today.checked_add(years).unwrap_or(today));
    if !known {
        let pem = params.self_signed(&key)?.pem();
        write(&certificate, pem.as_bytes())?;
        // It is public: whoever sets up a client reads it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&certificate, open)
            .map_err(|cause| TlsError::Write { path: certificate, cause })?;
    }
    Ok(Issuer::new(params, key))
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn today() -> Date {
    Zoned::new(Timestamp::now(), TimeZone::UTC).date()
}

fn plus_days(date: Date, days: i64) -> Date {
    date.checked_add(Span::new().days(days)).unwrap_or(date)
}

fn holds(params: &mut CertificateParams, from: Date, until: Date) {
    let date =
        |d: Date| rcgen::date_time_ymd(d.year().into(), d.month().unsigned_abs(), d.day().unsigned_abs());
    (params.not_before, params.not_after) = (date(from), date(until));
}

/// Names that a server at this address is reached by: its own, the machine's, and loopback's.
pub fn default_names(listen: IpAddr, extra: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(machine_name());
    names.push(host_name(listen));
    names.extend(extra.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// The name in a URL of a server at this address: the address, or where it listens on all, the machine's name.
pub fn host_name(listen: IpAddr) -> String {
    if listen.is_unspecified() { machine_name() } else { listen.to_string() }
}

fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    fn auto(folder: &TempDir, names: &[&str]) -> Source {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Source::Auto { folder: folder.path().join("tls"), names }
    }

    fn file(folder: &TempDir, name: &str) -> Vec<u8> {
        fs::read(folder.path().join("tls").join(name)).unwrap()
    }

    #[test]
    fn a_certificate_stays_until_its_names_change_or_it_ends_soon() {
        let folder = TempDir::new().unwrap();
        Tls::open(auto(&folder, &["localhost", "127.0.0.1"])).unwrap();
        let (authority, first) = (file(&folder, "ca.crt"), file(&folder, "server.crt"));
        let tls = Tls::open(auto(&folder, &["localhost", "127.0.0.1"])).unwrap();
        assert_eq!(file(&folder, "server.crt"), first);

        let soon = Signed {
            names: vec!["localhost".into(), "127.0.0.1".into()],
            until: plus_days(today(), RENEW_DAYS).to_string(),
        };
        fs::write(folder.path().join("tls/server.json"), serde_json::to_vec(&soon).unwrap()).unwrap();
        let before = tls.current.0.load_full();
        tls.reload().unwrap();
        assert_ne!(file(&folder, "server.crt"), first);
        assert_ne!(tls.current.0.load_full().cert, before.cert);

        let renewed = file(&folder, "server.crt");
        Tls::open(auto(&folder, &["registry.example.com"])).unwrap();
        assert_ne!(file(&folder, "server.crt"), renewed);
        assert_eq!(file(&folder, "ca.crt"), authority);
    }

    #[test]
    fn private_keys_are_private() {
        let folder = TempDir::new().unwrap();
        Tls::open(auto(&folder, &["localhost"])).unwrap();
        for (name, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("ca.crt", 0o644)] {
            let is = fs::metadata(folder.path().join("tls").join(name)).unwrap().permissions().mode();
            assert_eq!(is & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn a_wrong_file_is_named_and_changes_nothing() {
        let folder = TempDir::new().unwrap();
        Tls::open(auto(&folder, &["localhost"])).unwrap();
        let path = |name: &str| folder.path().join("tls").join(name);
        let source = Source::Files { certificate: path("server.crt"), key: path("server.key") };
        let tls = Tls::open(source).unwrap();
        let before = tls.current.0.load_full();
        for (name, contents) in [("server.crt", "nonsense"), ("server.key", "nonsense"), ("server.key", "")] {
            let kept = fs::read(path(name)).unwrap();
            fs::write(path(name), contents).unwrap();
            let error = tls.reload().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(Arc::ptr_eq(&tls.current.0.load_full(), &before));
            fs::write(path(name), kept).unwrap();
        }
        // A key that belongs to another certificate.
        fs::copy(path("ca.key"), path("server.key")).unwrap();
        assert!(tls.reload().is_err());
        let error = Tls::open(auto(&TempDir::new().unwrap(), &["not a name"])).unwrap_err();
        assert!(error.to_string().contains("not a name"), "{error}");
    }
}
