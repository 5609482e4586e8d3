//! `switchback-server`: the Image repository, the Director and the rollouts of one region.
#![forbid(unsafe_code)]

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use switchback_ota_server::{
    api, jobs,
    keys::OnlineKeys,
    server::{Config, Server},
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
    /// Log lines as JSON.
    #[arg(long, env = "SWITCHBACK_LOG_JSON")]
    log_json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(options) => serve(options).await,
        Command::OnlineKeys { data } => {
            let keys = OnlineKeys::open(&data.data_dir.join("keys"))?;
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
    let (server, work) = Server::open(config).await?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", options.listen))?;
    let shutdown = shutdown_signal()?;
    let (stop, stopped) = watch::channel(false);
    let mut jobs = jobs::start(&server, work, &stopped);
    // Whoever started us waits for this line to learn the port.
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    api::serve(listener, api::router(&server), shutdown).await?;
    // Requests are answered; now what they left behind is written.
    stop.send_replace(true);
    while jobs.join_next().await.is_some() {}
    server.close().await;
    tracing::info!("stopped");
    Ok(())
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
