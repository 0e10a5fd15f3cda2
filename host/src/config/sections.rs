//! Every setting: its name, type, default, bounds and what it is for.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use wharf_oci::RepoPattern;
use wharf_plugin::bounds;

use super::reader::{Reader, Setting};

/// A setting as the reference shows it.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) kind: String,
    pub(super) default: String,
    pub(super) about: String,
}

/// One table of the file as the reference shows it.
#[derive(Debug)]
pub(super) struct Section {
    /// Empty for what stands before all tables.
    pub(super) table: &'static str,
    pub(super) about: String,
    pub(super) settings: Vec<Described>,
}

/// Defines one table: a struct with defaults, its reader and its description, from one list.
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis $section:ident, $table:literal {
            $( $(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr $(, $bounds:expr)?; )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $vis struct $section {
            $( $(#[doc = $doc])* pub $name: $type, )*
        }

        impl Default for $section {
            fn default() -> Self {
                $section { $( $name: $default, )* }
            }
        }

        impl $section {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                $section {
                    $( $name: {
                        let read: $type = reader.take($table, stringify!($name), $default);
                        $( reader.check_bounds($table, stringify!($name), read, $bounds); )?
                        read
                    }, )*
                }
            }

            pub(super) fn describe() -> Section {
                Section {
                    table: $table,
                    about: concat!($($about, "\n"),*).trim().to_owned(),
                    settings: vec![ $( {
                        let default: $type = $default;
                        #[allow(unused_mut, reason = "only numbers have bounds")]
                        let mut kind = <$type as Setting>::kind();
                        $(
                            let bounds: std::ops::RangeInclusive<u64> = $bounds;
                            kind.push_str(&format!(", {} to {}", bounds.start(), bounds.end()));
                        )?
                        Described {
                            name: stringify!($name),
                            kind,
                            default: default.show(),
                            about: concat!($($doc, "\n"),*).trim().to_owned(),
                        }
                    }, )* ],
                }
            }
        }
    };
}

settings! {
    /// The server as a whole.
    pub(super) Server, "" {
        /// Address and port to listen on; `--listen` goes before it. Port 0 lets the system pick one.
        listen: SocketAddr = super::LISTEN;
        /// How clients reach the server where that is not what they say themselves, such as behind a proxy:
        /// `https://registry.example.com`, without a path. It goes into the challenges that send clients to `/token`.
        public_url: Option<String> = None;
        /// Addresses of proxies whose `X-Forwarded-For` is believed. Without it, everybody behind a proxy shares what
        /// slows down wrong passwords from one address.
        trusted_proxies: Vec<IpAddr> = Vec::new();
        /// The folder that plugins are dropped into; `plugins` in the data folder where it is not set. Relative to this
        /// file.
        plugins: Option<PathBuf> = None;
    }
}

settings! {
    /// Encryption. Docker refuses plain HTTP to anything but loopback.
    pub(super) TlsSection, "tls" {
        /// `off`, `auto` (an authority of the server's own, made at the first start) or `files`.
        mode: TlsMode = TlsMode::Off;
        /// More host names and addresses that clients use, for `auto`; `localhost`, the machine's name and the address
        /// listened on are there already.
        names: Vec<String> = Vec::new();
        /// The certificate and those between it and its authority, PEM, for `files`. Read again at SIGHUP and twice a
        /// day. Relative to this file.
        certificate: Option<PathBuf> = None;
        /// Its private key, PEM, for `files`.
        key: Option<PathBuf> = None;
    }
}

settings! {
    /// What the server bears with.
    pub Limits, "limits" {
        /// Connections at the same time; more wait in the system's queue. The memory that clients can take grows with it: over
        /// HTTP/2 up to 4 MiB that a connection has received and, where its client reads nothing, 6 MiB of blobs or 32 whole
        /// manifests that wait to be sent. What uploads gather is bounded over all connections, at 64 MiB.
        connections: u64 = 4096, 1..=65_536;
        /// How long the TLS handshake, the first bytes and each request's header may take.
        header_ms: u64 = 20_000, 100..=600_000;
        /// How long nothing may move on a connection, either way.
        idle_ms: u64 = 300_000, 1_000..=3_600_000;
        /// How long requests and jobs that run may go on once the server is told to stop.
        stop_ms: u64 = 25_000, 0..=600_000;
    }
}

settings! {
    /// The server's own log, on standard error.
    pub Log, "log" {
        /// `text` for people, `json` for collectors: one object a line. `--log-format` goes before it.
        format: LogFormat = LogFormat::Text;
        /// `error`, `warn`, `info`, `debug` or `trace`, or more finely as in `info,wharf::api=debug`; `--log` goes
        /// before it.
        level: String = "info".to_owned();
    }
}

settings! {
    /// Prometheus' metrics at `/metrics`.
    pub Metrics, "metrics" {
        /// Answer without a login. Otherwise only administrators may read them.
        public: bool = false;
    }
}

settings! {
    /// The metadata store and the blobs.
    pub Store, "store" {
        /// Memory for pages of the metadata.
        cache_bytes: u64 = 16 * 1024 * 1024, 1_048_576..=17_179_869_184;
        /// A file that is freed when the disk is full, so that deleting still works; 0 for none.
        ballast_bytes: u64 = 64 * 1024 * 1024, 0..=17_179_869_184;
        /// Uploads are refused while less than this is free.
        watermark_bytes: u64 = 256 * 1024 * 1024, 0..=1_099_511_627_776;
    }
}

settings! {
    /// Repositories and what is pushed to them.
    pub Registry, "registry" {
        /// Repositories, as patterns, that take images of which blobs are missing, as a partial mirror has them. Elsewhere
        /// such an image is refused, and only manifests that an index names may be missing.
        sparse: Vec<RepoPattern> = Vec::new();
        /// How long blobs that no manifest needs, uploads that nobody continues and files that nothing names are kept. A
        /// client that is told of a blob has half of it to push the manifest.
        grace_ms: u64 = 86_400_000, 60_000..=31_536_000_000;
    }
}

settings! {
    /// What one call of a plugin may use.
    pub Plugin, "plugin" {
        /// How long it may run.
        time_ms: u64 = 100, bounds::TIME_MS;
        /// Memory of all its instances together.
        memory_bytes: u64 = 64 * 1024 * 1024, bounds::MEMORY_BYTES;
        /// Host functions it may call.
        host_calls: u64 = 100_000, bounds::HOST_CALLS;
        /// Bytes of its reasons and errors together.
        output_bytes: u64 = 64 * 1024, bounds::OUTPUT_BYTES;
        /// Bytes of log lines kept; more are dropped.
        log_bytes: u64 = 16 * 1024, bounds::LOG_BYTES;
        /// Bytes of the record of what it asked.
        trace_bytes: u64 = 1024 * 1024, bounds::TRACE_BYTES;
    }
}

settings! {
    /// Scans. Each runs in a process of its own, so that a hostile image can end nothing but its own scan.
    pub Scan, "scan" {
        /// Scans at the same time.
        at_once: u64 = 2, 1..=256;
        /// Memory of one scan.
        memory_bytes: u64 = 512 * 1024 * 1024, 67_108_864..=68_719_476_736;
        /// How long one scan may take.
        time_ms: u64 = 600_000, 1_000..=86_400_000;
    }
}

settings! {
    /// How long records are kept.
    pub Retention, "retention" {
        /// Events, refused requests and refused plugin files, in days; never less than until every part of the server has
        /// read them.
        events_days: u64 = 90, 1..=36_500;
        /// Decisions, in days, with the facts, bills of materials and plugins that they were made with. The newest
        /// decision of each binding about each tag is kept for as long as it stands.
        decisions_days: u64 = 365, 1..=36_500;
    }
}

/// Every table, in the order of the reference.
pub(super) fn known() -> Vec<Section> {
    vec![
        Server::describe(),
        TlsSection::describe(),
        Limits::describe(),
        Log::describe(),
        Metrics::describe(),
        Store::describe(),
        Registry::describe(),
        Plugin::describe(),
        Scan::describe(),
        Retention::describe(),
    ]
}

/// A closed set of words.
macro_rules! words {
    ($(#[$meta:meta])* $type:ident { $($variant:ident = $word:literal),+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($variant),+ }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($type::$variant),)+
                    _ => Err(format!("it is not {}", <$type as Setting>::kind())),
                }
            }
        }

        impl Setting for $type {
            fn kind() -> String {
                [$(concat!("`", $word, "`")),+].join(" or ")
            }

            fn read(value: &toml::de::DeValue<'_>) -> Result<Self, String> {
                value.as_str().unwrap_or_default().parse()
            }

            fn show(&self) -> String {
                match self {
                    $($type::$variant => concat!("\"", $word, "\"").to_owned(),)+
                }
            }
        }
    };
}

words! {
    /// How connections are encrypted.
    TlsMode { Off = "off", Auto = "auto", Files = "files" }
}

words! {
    /// How log lines are written.
    LogFormat { Text = "text", Json = "json" }
}
