//! What cases share in which several things happen at the same time.

use std::time::Duration;

use super::{Backend, Hub};

/// Rounds of a race: a few here, thousands with `HEARTWIRE_RACE_ROUNDS`.
pub fn rounds(few: usize) -> usize {
    std::env::var("HEARTWIRE_RACE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Two nodes with the same settings.
pub async fn two(settings: &'static [(&'static str, &'static str)]) -> (Hub, Hub) {
    let a = Hub::start_with(Backend::PostgresRedis, settings).await;
    let b = a.another_node(settings).await;
    (a, b)
}

/// Some time, of so many microseconds at most, so that not always the same one comes first.
pub async fn some_time(most: u64) {
    tokio::time::sleep(Duration::from_micros(rand::random_range(0..most))).await;
}
