//! The Redis that the cases use: the one that `scripts/test` started, or one that this process starts
//! for itself. Hubs share it: each has names of its own there.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// A private server; ends when it is dropped or its process dies.
pub struct Server {
    pub url: String,
    pid: u32,
    script: Option<Child>,
}

impl Server {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_on(None)
    }

    fn start_on(port: Option<u16>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-redis");
        let mut command = Command::new(script);
        if let Some(port) = port {
            command.env("HEARTWIRE_REDIS_PORT", port.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("scripts/private-redis");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut line = || lines.next().expect("the script says where it runs").expect("readable");
        Self { url: line(), pid: line().parse().expect("a process id"), script: Some(child) }
    }

    /// Ends it and starts another one, empty, at the same address.
    pub fn restart(&mut self) {
        let port = self.port();
        self.end();
        *self = Self::start_on(Some(port));
    }

    /// Ends it.
    pub fn end(&mut self) {
        if let Some(mut script) = self.script.take() {
            drop(script.stdin.take());
            let _ = script.wait();
        }
    }

    /// It stays connected and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Loses all its data.
    pub fn flush(&self) {
        self.say(&["FLUSHALL"]);
    }

    /// Runs a command; gives its answer.
    pub fn say(&self, command: &[&str]) -> String {
        let port = self.port().to_string();
        let done = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port]).args(command).output();
        let done = done.expect("redis-cli");
        assert!(done.status.success());
        String::from_utf8(done.stdout).expect("text")
    }

    fn port(&self) -> u16 {
        let address = self.url.rsplit('/').nth(1).expect("host and port");
        address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid.to_string()]).status();
        assert!(sent.expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server that all cases share; they leave it alone.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("HEARTWIRE_TEST_REDIS") {
        Ok(url) => Server { url, pid: 0, script: None },
        Err(_) => Server::start(),
    })
}
