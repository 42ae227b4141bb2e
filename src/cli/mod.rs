//! The command line.

mod admin;
mod serve;
mod simulate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{config::Config, error::Result, settings::Unusable, telemetry};

/// A realtime hub for fleets of coding-agent daemons.
#[derive(Debug, Parser)]
#[command(name = "heartwire", version)]
struct Command {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the hub.
    Serve(serve::Serve),
    /// Run daemons and browsers that are not there, against a hub that is.
    Simulate(simulate::Simulate),
    /// Manage people, workspaces and tokens, while the hub runs or not.
    Admin(admin::Admin),
    /// Show every setting with its origin, or say what does not fit.
    CheckConfig(CheckConfig),
}

/// Where a setting's value may come from, shared by all commands that use the store.
#[derive(Debug, Clone, Args)]
struct Sources {
    /// Configuration file.
    #[arg(long, env = "HEARTWIRE_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Folder of the embedded store. [env: HEARTWIRE_DATA_DIR]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
    /// PostgreSQL instead of the embedded store. [env: DATABASE_URL]
    #[arg(long, value_name = "URL", global = true)]
    database_url: Option<String>,
    /// Redis, for several nodes. [env: REDIS_URL]
    #[arg(long, value_name = "URL", global = true)]
    redis_url: Option<String>,
}

impl Sources {
    fn load(&self, more: &[(&'static str, Option<String>)]) -> Result<Config, Unusable> {
        let own = [
            ("db.data_dir", self.data_dir.clone()),
            ("db.url", self.database_url.clone()),
            ("redis.url", self.redis_url.clone()),
        ];
        let flags: Vec<(&str, String)> =
            own.into_iter().chain(more.iter().cloned()).filter_map(|(name, value)| Some((name, value?))).collect();
        Config::load(self.config.as_deref(), |name| std::env::var(name).ok().filter(|text| !text.is_empty()), &flags)
    }
}

#[derive(Debug, Args)]
struct CheckConfig {
    #[command(flatten)]
    sources: Sources,
    /// Where to listen. [env: HEARTWIRE_LISTEN]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Print the commented reference file instead.
    #[arg(long)]
    reference: bool,
}

/// Runs the command that the process was started with and returns its exit code.
pub fn run() -> u8 {
    let command = Command::parse();
    telemetry::start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match command.command {
        Verb::Serve(serve) => runtime.block_on(serve.run()),
        Verb::Simulate(simulate) => runtime.block_on(simulate.run()),
        Verb::Admin(admin) => runtime.block_on(admin.run()),
        Verb::CheckConfig(check) => check.run(),
    }
}

impl CheckConfig {
    fn run(self) -> u8 {
        if self.reference {
            print!("{}", Config::reference());
            return 0;
        }
        match self.sources.load(&[("server.listen", self.listen)]) {
            Ok(config) => {
                print!("{}", config.explain());
                0
            }
            Err(error) => failed(&error),
        }
    }
}

/// Says what went wrong and gives the exit code for it.
fn failed(error: &dyn std::fmt::Display) -> u8 {
    eprintln!("heartwire: {error}");
    1
}
