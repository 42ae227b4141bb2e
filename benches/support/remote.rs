//! A swarm in a child process, so that its memory is not the hub's: the bench starts itself again
//! and talks to the child in lines of JSON.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Swarm, Target};

/// The first argument that makes the bench a child.
const ARGUMENT: &str = "swarm";

#[derive(Serialize, Deserialize)]
enum Ask {
    Open { count: usize, target: Target },
    WaitFor { position: u64, seconds: u64 },
}

#[derive(Serialize, Deserialize)]
struct Told {
    /// The least position of all sockets.
    slowest: u64,
    received: u64,
    epoch: String,
}

/// Sockets in a child process.
pub struct RemoteSwarm {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The hub's epoch.
    pub epoch: String,
    /// Where the sockets began.
    pub position: u64,
}

impl RemoteSwarm {
    /// Runs the child if this process is one; called first in `main`.
    pub fn serve_if_child() {
        if std::env::args().nth(1).as_deref() == Some(ARGUMENT) {
            serve();
            std::process::exit(0);
        }
    }

    /// Opens sockets; returns when all are acknowledged.
    pub fn open(count: usize, target: Target) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let asks = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut swarm = Self { child, asks, answers, epoch: String::new(), position: 0 };
        let told = swarm.ask(&Ask::Open { count, target });
        swarm.epoch = told.epoch;
        swarm.position = told.slowest;
        swarm
    }

    /// Waits until every socket is at `position`; returns the events received so far.
    pub fn wait_for(&mut self, position: u64, limit: Duration) -> u64 {
        let told = self.ask(&Ask::WaitFor { position, seconds: limit.as_secs() });
        assert_eq!(told.slowest, position, "the slowest socket");
        told.received
    }

    fn ask(&mut self, ask: &Ask) -> Told {
        let line = serde_json::to_string(ask).expect("JSON");
        writeln!(self.asks, "{line}").expect("the child lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the child lives");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("the child said {answer:?}: {error}"))
    }
}

impl Drop for RemoteSwarm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve() {
    let mut swarm = None;
    for line in std::io::stdin().lines() {
        let ask: Ask = serde_json::from_str(&line.expect("a line")).expect("a question");
        let swarm = match ask {
            Ask::Open { count, target } => swarm.insert(Swarm::open(vec![target; count], usize::MAX)),
            Ask::WaitFor { position, seconds } => {
                let swarm = swarm.as_mut().expect("opened");
                swarm.wait_for(position, Duration::from_secs(seconds));
                swarm
            }
        };
        let told = Told { slowest: swarm.slowest(), received: swarm.received(), epoch: swarm.epoch.clone() };
        println!("{}", serde_json::to_string(&told).expect("JSON"));
    }
}
