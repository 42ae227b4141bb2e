//! The demonstration of `serve --demo`: a small fleet, with something to do at all times.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    Plan, Simulation, Transport,
    client::Hub,
    report::Shape,
    tasks::{self, Habits},
};
use crate::{error::Result, identity::bootstrap::Demo};

/// Some three tasks are under way at any time, and each says something every second.
const WISHES_A_SECOND: f64 = 0.1;
const HABITS: Habits = Habits { work: Duration::from_secs(30), messages: 30, batch: 20, cancel: 0.1 };

/// Three machines with two runtimes each, over real sockets against the hub's own address.
pub async fn demo(hub: SocketAddr, demo: Demo) -> Result<Simulation> {
    let ip = match hub.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(ip, hub.port()));
    let plan = Plan {
        shape: Shape { daemons: 3, runtimes: 6, browsers: 0 },
        idle: 0,
        runtimes: 2,
        daemon_ids: "sim-demo-".to_owned(),
        beat: Duration::from_secs(15),
        transport: Transport::Ws,
        rate: 0.0,
        cut: None,
        tasks: Some(tasks::Plan { rate: WISHES_A_SECOND, habits: HABITS, at: None, verify: false }),
    };
    let token = demo.token.parse().unwrap_or_else(|never| match never {});
    let simulation = Simulation::start(Hub::new(&url, token)?, demo.workspace, plan)?;
    tracing::info!(daemons = 3, runtimes = 6, "the demonstration runs");
    Ok(simulation)
}
