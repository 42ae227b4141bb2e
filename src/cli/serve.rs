//! `heartwire serve`.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    time::Duration,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Sources, failed, simulate};
use crate::{
    app::App,
    error::{Error, Result},
};

/// Where the first start leaves its token when nobody looks at a terminal.
const TOKEN_FILE: &str = "first-token";
/// A demonstration does not keep a hub from stopping.
const DEMO_LEAVES: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    sources: Sources,
    /// Where to listen. [env: HEARTWIRE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Start a small simulated fleet in the process.
    #[arg(long)]
    demo: bool,
}

impl Serve {
    pub(super) async fn run(self) -> u8 {
        let config = match self.sources.load(&[("server.listen", self.listen.clone())]) {
            Ok(config) => config,
            Err(error) => return failed(&error),
        };
        let data_dir = config.db.data_dir.clone();
        let public_url = config.api.public_url.clone();
        let app = match App::start(config).await {
            Ok(app) => app,
            Err(error) => return failed(&error),
        };
        let url = public_url.unwrap_or_else(|| format!("http://{}", app.address));
        if let Err(error) = tell_first_token(&app, &url, &data_dir) {
            let mend = "make another: heartwire admin create-token --user owner@localhost --name first";
            app.stop().await;
            return failed(&format_args!("the first token could not be told: {error}; {mend}"));
        }
        let demo = match self.demo {
            true => start_demo(&app).await,
            false => None,
        };
        wait_for_the_end().await;
        tracing::info!("stopping");
        // While the hub still answers, so that the demonstration's runtimes go offline in order.
        if let Some(fleet) = demo {
            let left = tokio::time::timeout(DEMO_LEAVES, fleet.stop()).await;
            drop(left.inspect_err(|_| tracing::warn!("the demonstration did not leave in time")));
        }
        app.stop().await;
        0
    }
}

/// A hub whose demonstration cannot start is a hub all the same.
async fn start_demo(app: &App) -> Option<simulate::Simulation> {
    let started = async { simulate::demo(app.address, app.demo_token().await?).await };
    started.await.inspect_err(|error| tracing::error!(%error, "the demonstration does not start")).ok()
}

/// Tells the first start's token once: to a terminal, or to a file only its owner can read.
fn tell_first_token(app: &App, url: &str, data_dir: &Path) -> Result<()> {
    let (Some(token), Some((email, slug))) = (app.first_token(), app.first_home()) else {
        return Ok(());
    };
    if std::io::stdout().is_terminal() {
        println!("\n  Dashboard  {url}\n  Workspace  {slug}\n  Owner      {email}\n  Token      {token}\n");
        println!("  The token is shown this once.\n");
        return Ok(());
    }
    let path = data_dir.join(TOKEN_FILE);
    std::fs::create_dir_all(data_dir)
        .and_then(|()| write_private(&path, token))
        .map_err(|error| Error::internal(format_args!("{}: {error}", path.display())))?;
    tracing::info!(path = %path.display(), dashboard = url, workspace = slug, owner = email, "the first owner's token is in this file");
    Ok(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

/// Returns when somebody asks the process to end.
pub(super) async fn wait_for_the_end() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM is not handled");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
