//! A gate before a server: what passes through it can be held, cut off or swallowed.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing passes until it is opened again.
    Frozen,
    /// As frozen, and what is connected by then stays so for ever: its other end is gone, and nobody
    /// says so.
    Dark,
    /// What is connected is cut off, and so is whoever connects.
    Shut,
}

pub struct Gate {
    address: SocketAddr,
    behind: String,
    state: watch::Sender<State>,
    accepting: AbortHandle,
}

impl Gate {
    /// Before the server of this URL.
    pub async fn before(url: &str) -> Self {
        let behind = authority(url).to_owned();
        let target: SocketAddr = behind.parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (state, seen) = watch::channel(State::Open);
        let accepting = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                while open.try_join_next().is_some() {}
                if *seen.borrow() != State::Shut {
                    open.spawn(pass(client, target, seen.clone()));
                }
            }
        });
        Self { address, behind, state, accepting: accepting.abort_handle() }
    }

    /// The server's URL, through the gate.
    pub fn url(&self, url: &str) -> String {
        assert_eq!(authority(url), self.behind);
        url.replace(&self.behind, &self.address.to_string())
    }

    pub fn open(&self) {
        self.state.send_replace(State::Open);
    }

    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    pub fn darken(&self) {
        self.state.send_replace(State::Dark);
    }

    pub fn shut(&self) {
        self.state.send_replace(State::Shut);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Host and port.
fn authority(url: &str) -> &str {
    let rest = url.split("//").nth(1).expect("a URL").split('/').next().expect("an authority");
    rest.rsplit('@').next().expect("a host")
}

async fn pass(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    admitted(&mut state).await;
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut cut = state.clone();
    tokio::select! {
        () = reached(&mut cut, State::Shut) => {}
        () = pump(from_client, to_server, state.clone()) => {}
        () = pump(from_server, to_client, state) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut dark = state.clone();
    loop {
        let read = tokio::select! {
            biased;
            () = reached(&mut dark, State::Dark) => None,
            read = from.read(&mut buffer) => Some(read),
        };
        let Some(read) = read else { return std::future::pending().await };
        let Ok(read @ 1..) = read else { return };
        admitted(&mut state).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits while the gate is frozen; for ever once it was dark.
async fn admitted(state: &mut watch::Receiver<State>) {
    loop {
        let now = *state.borrow_and_update();
        match now {
            State::Open | State::Shut => return,
            State::Dark => return std::future::pending().await,
            State::Frozen => drop(state.changed().await),
        }
    }
}

async fn reached(seen: &mut watch::Receiver<State>, wanted: State) {
    let _ = seen.wait_for(|state| *state == wanted).await;
}
