//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{ServeOptions, config};

/// Wharf: push, scan, judge, promote and deploy container images
#[derive(Debug, Parser)]
#[command(name = "wharf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve {
        /// The one folder that holds everything; made where it is missing
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Address to listen on; port 0 lets the system pick one
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Settings file (TOML); every setting has a default
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// `auto` makes a certificate authority of the server's own
        #[arg(long, value_name = "auto")]
        tls: Option<String>,
    },
}

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    let Command::Serve { data, listen, config, tls } = Cli::parse().command;
    let tls = tls.map(|_| config::Tls::Auto { names: Vec::new() });
    match crate::serve(ServeOptions { data, listen, config, tls, log: None }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
