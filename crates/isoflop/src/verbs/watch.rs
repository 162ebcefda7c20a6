//! `isoflop watch`: a live page of a store, on this machine's own address.

use crate::cli::Context;
use crate::signals;
use isoflop_lab::{Stopped, UserError};
use isoflop_watch::server::{Server, Settings};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The port, unless another is asked for or it is taken.
const PORT: u16 = 8080;

/// Arguments of `isoflop watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// The store, or the output directory of a study with a store inside [default: --store].
    #[arg(value_name = "RUNS_DIR")]
    runs: Option<PathBuf>,
    /// Port of the page; 0 is any that is free [default: 8080, or one of those after it].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address to listen at; one that other machines can reach needs --token.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// File with a token that is then wanted on each request.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: WatchArgs, ctx: &Context) -> anyhow::Result<ExitCode> {
    let store = store_of(args.runs.as_deref(), ctx)?;
    let token = args.token.as_deref().map(read_token).transpose()?;
    let stop = signals::listen()?;
    let server = Server::bind(Settings {
        store: store.clone(),
        address: args.address,
        port: args.port,
        usual: PORT,
        token,
    })?;
    if let Some(taken) = server.taken() {
        eprintln!("port {taken} is taken by another program; this page is at {}", server.port());
    }
    if ctx.json {
        let document =
            serde_json::json!({ "schema": "isoflop.watch/1", "url": server.url(), "store": store });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{}", server.url());
    }
    crate::console::finish();
    let port = server.port();
    eprintln!("watching {}; Ctrl-C ends the page and nothing else", store.display());
    eprintln!(
        "from another machine: ssh -L {port}:localhost:{port} HERE, then open http://localhost:{port}/"
    );
    server.run(&stop)?;
    Err(Stopped(stop.reason().expect("it runs until it is to stop")).into())
}

/// The store that is meant: a directory of runs, or the one inside a study's output directory.
///
/// # Errors
/// A [`UserError`]: it is a file.
pub(crate) fn store_of(asked: Option<&Path>, ctx: &Context) -> Result<PathBuf, UserError> {
    let dir = asked.unwrap_or(&ctx.store);
    if dir.is_file() {
        return Err(UserError::new(format!("{} is a file", dir.display()))
            .hint("name the directory of the runs, such as `runs` or `isoflop-demo/runs`"));
    }
    let inside = dir.join("runs");
    Ok(if inside.is_dir() { inside } else { dir.to_owned() })
}

fn read_token(path: &Path) -> Result<String, UserError> {
    let bytes = isoflop_lab::input::read(path).map_err(|e| {
        UserError::new(format!("cannot read {}: {e}", isoflop_lab::input::name(path)))
            .hint("--token names a file that holds the token; make one with `openssl rand -hex 16 > token`")
    })?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
