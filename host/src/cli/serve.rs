use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{ServeOptions, config};

/// Run the server
///
/// It needs nothing but a folder. The first start makes the user `admin` and prints its password.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  wharf serve --data /var/lib/wharf
  wharf serve --data ./data --listen 0.0.0.0:5443 --tls auto
  wharf serve --data /var/lib/wharf --config /etc/wharf.toml")]
pub(super) struct Serve {
    /// The one folder that holds everything; made where it is missing
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on; port 0 lets the system pick one [default: 127.0.0.1:5080]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Settings file (TOML); every setting has a default, and options here go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// `off`, `auto` (an authority of the server's own, made at the first start), or a certificate and its key (PEM)
    #[arg(long, value_name = "off|auto|CERT,KEY")]
    tls: Option<TlsArg>,
    /// What to log: error, warn, info, debug, trace, or filters such as `wharf=debug,warn`
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    log: Option<String>,
    /// How to log: for people, or one JSON object a line
    #[arg(long, value_name = "text|json")]
    log_format: Option<config::LogFormat>,
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "it is an IP address and a port, such as `127.0.0.1:5080` or `0.0.0.0:5080`")
}

/// A level that the log takes.
fn level(text: &str) -> Result<String, String> {
    config::log_filter(text).map(|_| text.to_owned())
}

/// `--tls` as it is given.
#[derive(Debug, Clone)]
struct TlsArg(config::Tls);

impl FromStr for TlsArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let tls = match (text, text.split_once(',')) {
            ("off", _) => config::Tls::Off,
            ("auto", _) => config::Tls::Auto { names: Vec::new() },
            (_, Some((certificate, key))) if !certificate.is_empty() && !key.is_empty() => {
                config::Tls::Files { certificate: certificate.into(), key: key.into() }
            }
            _ => return Err("it is `off`, `auto` or two files with a comma between them"),
        };
        Ok(TlsArg(tls))
    }
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Serve { data, listen, config, tls, log, log_format } = self;
        crate::serve(ServeOptions { data, listen, config, tls: tls.map(|tls| tls.0), log, log_format })
    }
}
