//! `switchback-server`: the Image repository, the Director and the rollouts of one region.
#![forbid(unsafe_code)]

use std::{
    io::{ErrorKind, IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use switchback_ota_server::{
    api::{self, CONNECTIONS_MAX, ConnectionLimits},
    jobs,
    keys::{KeyError, OnlineKeys, Pending},
    server::{Config, OpenError, Server, lock_folder},
};
use tokio::{net::TcpListener, sync::watch};
use tracing_subscriber::EnvFilter;

/// Decides which vehicle gets which driving model, and serves it.
#[derive(Parser)]
#[command(name = "switchback-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server. All it keeps is in the data folder, which is made when absent.
    Serve(Serve),
    /// Prints the public keys of the online roles, for the root ceremonies. Makes the keys when there are none.
    OnlineKeys {
        #[command(flatten)]
        data: Data,
        /// Make new keys for the next roots to name; until a root does, the old ones sign. The server must not be running
        #[arg(long)]
        new: bool,
        /// Drop new keys that no root names yet, and make others
        #[arg(long, requires = "new")]
        replace: bool,
    },
}

#[derive(Args)]
struct Data {
    /// Folder with the database, the bundles, the online keys and the control plane's token.
    #[arg(long, env = "SWITCHBACK_DATA_DIR")]
    data_dir: PathBuf,
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    data: Data,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8470", env = "SWITCHBACK_LISTEN")]
    listen: SocketAddr,
    /// How long vehicles wait between two polls, seconds.
    #[arg(long, default_value_t = 60, env = "SWITCHBACK_POLL_AFTER_S", value_parser = clap::value_parser!(u32).range(1..))]
    poll_after_s: u32,
    /// Reports of one vehicle that are kept as evidence, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 1_000, env = "SWITCHBACK_REPORTS_PER_VEHICLE", value_parser = clap::value_parser!(u32).range(1..))]
    reports_per_vehicle: u32,
    /// How long vehicles' reports and failures are kept, days; what people and gates decided is kept for ever.
    #[arg(long, value_name = "DAYS", default_value_t = 3_653, env = "SWITCHBACK_RECORDS_DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    records_days: u32,
    /// Connections of all peers together. Beyond them the control plane alone gets through.
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_MAX, env = "SWITCHBACK_CONNECTIONS", value_parser = positive)]
    connections: usize,
    /// Connections of one peer: of one IPv4 address, or of one IPv6 network of 64 bits. An eighth of all when absent; behind a proxy,
    /// which is the only peer then, it is all of them
    #[arg(long, value_name = "N", env = "SWITCHBACK_CONNECTIONS_PER_PEER", value_parser = positive)]
    connections_per_peer: Option<usize>,
    /// Log lines as JSON.
    #[arg(long, env = "SWITCHBACK_LOG_JSON")]
    log_json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error as people read it: what happened, and what to do about it. Never a backtrace, whatever the environment asks for.
fn told(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = error.chain().map(ToString::to_string).collect();
    // Some messages of libraries repeat their cause.
    for cause in (1..lines.len()).rev() {
        if lines[cause - 1].ends_with(&lines[cause]) {
            lines.remove(cause);
        }
    }
    let hint = hint(error).map_or_else(String::new, |hint| format!(" hint: {hint}\n"));
    format!("error: {}\n{hint}", lines.join(": "))
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return match error {
            OpenError::InUse { .. } => Some("stop the other server, or give this one a --data-dir of its own"),
            OpenError::Folder { .. } | OpenError::Keys(_) | OpenError::Registry(_) | OpenError::Storage(_) => {
                Some("everything in --data-dir must be readable and writable for the user who runs the server, on a disk with space")
            }
            _ => None,
        };
    }
    match error.downcast_ref::<NewKeys>() {
        Some(NewKeys::InUse(OpenError::InUse { .. })) => {
            return Some("ask the running server for new keys, from the desk of the ceremony: `switchback root online-keys --new`");
        }
        Some(NewKeys::Keys(KeyError::Pending { .. })) => {
            return Some("have the roots name those; if they may be stolen too, make others in their place with --replace");
        }
        _ => {}
    }
    let listening = error.downcast_ref::<Listening>()?;
    match listening.source.kind() {
        ErrorKind::AddrInUse => {
            Some("another program listens there: stop it, or choose another port with --listen (port 0 takes a free one)")
        }
        ErrorKind::AddrNotAvailable => Some("--listen takes an address of this computer, such as 127.0.0.1:8470, or 0.0.0.0:8470 for all"),
        ErrorKind::PermissionDenied => Some("ports below 1024 need privileges: choose another one with --listen"),
        _ => None,
    }
}

/// No new keys were made.
#[derive(Debug, thiserror::Error)]
enum NewKeys {
    #[error(transparent)]
    InUse(OpenError),
    #[error(transparent)]
    Keys(KeyError),
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
struct Listening {
    address: SocketAddr,
    source: std::io::Error,
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(options) => serve(options).await,
        Command::OnlineKeys { data, new, replace } => {
            // A running server would not hear of keys that are made behind its back.
            let _lock = new.then(|| lock_folder(&data.data_dir)).transpose().map_err(NewKeys::InUse)?;
            let mut keys = OnlineKeys::open(&data.data_dir.join("keys"))?;
            if new {
                keys.make_next(if replace { Pending::Replace } else { Pending::Keep }).map_err(NewKeys::Keys)?;
            }
            let mut out = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &keys.public_json())?;
            writeln!(out)?;
            Ok(())
        }
    }
}

async fn serve(options: Serve) -> anyhow::Result<()> {
    log_to_stderr(options.log_json);
    let mut config = Config::new(options.data.data_dir);
    config.poll_after_s = options.poll_after_s;
    config.reports_per_vehicle = options.reports_per_vehicle;
    config.records_days = options.records_days;
    let (server, work) = Server::open(config).await?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.map_err(|source| Listening { address: options.listen, source })?;
    let limits = connection_limits(options.connections, options.connections_per_peer);
    let shutdown = shutdown_signal()?;
    let (stop, stopped) = watch::channel(false);
    let mut jobs = jobs::start(&server, work, &stopped);
    // Whoever started us waits for this line to learn the port.
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    api::serve(listener, api::router(&server), limits, shutdown).await?;
    // Requests are answered; now what they left behind is written.
    stop.send_replace(true);
    while jobs.join_next().await.is_some() {}
    server.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number above 0 is expected".to_owned())
}

/// As many connections as were asked for and the system lets the process have.
fn connection_limits(connections: usize, per_peer: Option<usize>) -> ConnectionLimits {
    let fit = files_max().map_or(usize::MAX, ConnectionLimits::connections_within);
    if fit < connections {
        tracing::warn!(connections = fit, asked = connections, "the system's limit of open files allows fewer connections (ulimit -n)");
    }
    ConnectionLimits::of(connections.min(fit), per_peer)
}

/// How many files the process may have open, raised to what the system allows it.
#[cfg(unix)]
fn files_max() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = setrlimit(Resource::Nofile, raised).map_or(limit, |()| raised);
    limit.current.and_then(|files| usize::try_from(files).ok())
}

#[cfg(not(unix))]
fn files_max() -> Option<usize> {
    None
}

fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    if json {
        logs.json().init();
    } else {
        logs.init();
    }
}

/// Listens for the wish to stop from now on, so that none is missed between the first line of output and the first connection.
#[cfg(unix)]
fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
