//! Publishers: tasks among the hub's own that call emit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    FILLER, Hub, Swarm,
    stats::Notes,
    swarm::{Watch, now},
};

/// How to publish without end.
#[derive(Debug, Clone, Copy)]
pub struct Mill {
    /// Concurrent publishers.
    pub tasks: usize,
    /// Events per transaction.
    pub batch: usize,
    /// Events that the slowest socket may be behind.
    pub window: u64,
}

/// How to publish at a pace, one event per transaction.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Events per second.
    pub per_second: u64,
    /// Publishers that share them.
    pub tasks: u64,
}

/// Publishes as fast as the slowest socket allows; returns how many events.
pub fn saturated(hub: &Hub, swarm: &Swarm, mill: Mill, time: Duration) -> u64 {
    let promised = Arc::new(AtomicU64::new(swarm.slowest()));
    let before = promised.load(Ordering::Relaxed);
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..mill.tasks)
        .map(|_| {
            let (app, workspace) = (hub.app.clone(), hub.workspace);
            let (promised, watch) = (promised.clone(), swarm.watch());
            hub.spawn(async move {
                let mut floor = 0;
                while Instant::now() < until {
                    let upto = promised.fetch_add(mill.batch as u64, Ordering::Relaxed) + mill.batch as u64;
                    leash(&watch, &mut floor, upto, mill.window).await;
                    app.emit(&[(workspace, mill.batch)], "0", FILLER).await.expect("emit");
                }
            })
        })
        .collect();
    for task in tasks {
        hub.run(task).expect("a publisher");
    }
    promised.load(Ordering::Relaxed) - before
}

/// Waits until the slowest socket is not further behind than the window.
async fn leash(watch: &Watch, floor: &mut u64, upto: u64, window: u64) {
    while *floor + window < upto {
        // A look at every socket, so seldom.
        *floor = watch.slowest();
        if *floor + window < upto {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Publishes at a pace; returns call and return of every emit. The call's time is the event's mark.
pub fn paced(hub: &Hub, rate: Rate, time: Duration) -> Notes {
    let tasks: Vec<_> = (0..rate.tasks)
        .map(|index| {
            let (app, workspace) = (hub.app.clone(), hub.workspace);
            hub.spawn(async move {
                let period = Duration::from_secs(1) * rate.tasks as u32 / rate.per_second as u32;
                let start = tokio::time::Instant::now() + period * index as u32 / rate.tasks as u32;
                let mut tick = tokio::time::interval_at(start, period);
                let mut notes = Notes::new();
                for _ in 0..(time.as_nanos() / period.as_nanos()) {
                    tick.tick().await;
                    let called = now();
                    app.emit(&[(workspace, 1)], &called.to_string(), FILLER).await.expect("emit");
                    notes.push((called, now()));
                }
                notes
            })
        })
        .collect();
    tasks.into_iter().flat_map(|task| hub.run(task).expect("a publisher")).collect()
}
