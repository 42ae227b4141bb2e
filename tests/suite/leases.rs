//! Who may do what beside other nodes: jobs that one node does for all, and nodes that share a
//! database.

use std::{path::Path, sync::Arc, time::Duration};

use heartwire::app::App;
use sqlx::{Connection, PgConnection};

use crate::support::{
    Backend, Hub,
    hub::{self, config},
    postgres, until,
};

const REFUSAL: &str = "another node uses this database: set REDIS_URL on all of them, or stop it";
const REDIS: (&str, &str) = ("REDIS_URL", "redis://127.0.0.1:1/0");
const MINUTE: i64 = 60_000_000;

on_both_stores!(
    a_job_has_one_holder_until_its_lease_runs_out,
    a_released_job_is_free_at_once,
    many_who_ask_at_once_have_one_winner,
    the_housekeeping_is_handed_over_by_a_stop,
);

async fn a_job_has_one_holder_until_its_lease_runs_out(backend: Backend) {
    let hub = Hub::start(backend).await;
    assert!(hub.app.hold_job("a-job", "a").await.unwrap());
    assert!(!hub.app.hold_job("a-job", "b").await.unwrap());
    assert!(hub.app.hold_job("report", "b").await.unwrap(), "another job is another lease");
    hub.app.advance_clock(Duration::from_secs(30));
    assert!(hub.app.hold_job("a-job", "a").await.unwrap(), "a holder renews");
    hub.app.advance_clock(Duration::from_secs(30));
    assert!(!hub.app.hold_job("a-job", "b").await.unwrap(), "it was renewed");
    hub.app.advance_clock(Duration::from_secs(16));
    assert!(hub.app.hold_job("a-job", "b").await.unwrap(), "it ran out");
    assert!(!hub.app.hold_job("a-job", "a").await.unwrap());
}

async fn a_released_job_is_free_at_once(backend: Backend) {
    let hub = Hub::start(backend).await;
    for job in ["a-job", "report"] {
        assert!(hub.app.hold_job(job, "a").await.unwrap());
    }
    hub.app.release_jobs("b").await.unwrap();
    assert!(!hub.app.hold_job("a-job", "b").await.unwrap(), "who has nothing releases nothing");
    hub.app.release_jobs("a").await.unwrap();
    for job in ["a-job", "report"] {
        assert!(hub.app.hold_job(job, "b").await.unwrap());
    }
}

async fn many_who_ask_at_once_have_one_winner(backend: Backend) {
    let hub = Arc::new(Hub::start(backend).await);
    // The second time, of a lease that has run out.
    for _ in 0..2 {
        let asked = (0..50).map(|n| {
            let hub = hub.clone();
            tokio::spawn(async move { hub.app.hold_job("a-job", &format!("node {n}")).await.unwrap() })
        });
        let won = futures_util::future::join_all(asked).await.into_iter().filter(|held| *held.as_ref().unwrap());
        assert_eq!(won.count(), 1);
        hub.app.advance_clock(Duration::from_secs(46));
    }
}

async fn the_housekeeping_is_handed_over_by_a_stop(backend: Backend) {
    const HOLDER: &str = "SELECT holder FROM job_lease WHERE name = 'housekeeping'";
    let hub = Hub::start(backend).await;
    until("the housekeeping has a holder", async || hub.rows(HOLDER).await.len() == 1).await;
    let first = hub.rows(HOLDER).await;
    let hub = hub.restart().await;
    until("the next run does it", async || {
        let holder = hub.rows(HOLDER).await;
        holder.len() == 1 && holder != first
    })
    .await;
}

/// A node in a folder of its own.
async fn node(url: &str, settings: &[(&'static str, &str)]) -> Result<(App, tempfile::TempDir), String> {
    let dir = tempfile::tempdir().unwrap();
    node_in(dir.path(), url, settings).await.map(|app| (app, dir))
}

async fn node_in(dir: &Path, url: &str, settings: &[(&'static str, &str)]) -> Result<App, String> {
    let config = config(dir.to_path_buf(), Some(url.to_owned()), settings);
    App::start(config).await.map_err(|error| error.to_string())
}

#[track_caller]
fn assert_refused<T>(started: Result<T, String>) {
    let refusal = started.err().expect("it started beside another node");
    assert!(refusal.contains(REFUSAL), "{refusal}");
}

/// Leaves the lease that a node at `place` would have; it ends in so many microseconds.
async fn leave_lease(url: &str, place: &str, has_redis: bool, ends_in: i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = "INSERT INTO node_lease (node, place, has_redis, expires_at)
               VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4)";
    let node = uuid::Uuid::new_v4().to_string();
    sqlx::query(sql).bind(node).bind(place).bind(has_redis).bind(ends_in).execute(&mut connection).await.unwrap();
}

/// A database with a schema and no node.
async fn left_database() -> String {
    let url = postgres::fresh_database(postgres::shared()).await;
    let (app, _dir) = node(&url, &[]).await.unwrap();
    app.stop().await;
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_without_redis_is_refused_until_the_first_stops() {
    let url = postgres::fresh_database(postgres::shared()).await;
    let (first, dir) = node(&url, &[]).await.unwrap();
    assert_refused(node(&url, &[]).await);
    assert_refused(node(&url, &[REDIS]).await);
    // The folder is the first one's, so its place is not this one's to replace.
    assert_refused(node_in(dir.path(), &url, &[]).await);
    first.stop().await;
    let (second, _dir) = node(&url, &[]).await.unwrap();
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_without_redis_are_one() {
    let url = left_database().await;
    let started = futures_util::future::join_all((0..4).map(|_| node(&url, &[]))).await;
    let (started, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert_eq!(started.len(), 1);
    refused.into_iter().for_each(assert_refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_crashed_starts_again_at_once() {
    let url = postgres::fresh_database(postgres::shared()).await;
    let dir = tempfile::tempdir().unwrap();
    node_in(dir.path(), &url, &[]).await.unwrap().stop().await;
    let place = std::fs::read_to_string(dir.path().join("node-id")).unwrap();
    leave_lease(&url, place.trim(), false, MINUTE).await;
    assert_refused(node(&url, &[]).await);
    let app = node_in(dir.path(), &url, &[]).await.expect("its own lease is in nobody's way");
    app.stop().await;
    assert_eq!(std::fs::read_to_string(dir.path().join("node-id")).unwrap(), place);
    let (elsewhere, _dir) = node(&url, &[]).await.expect("the dead one's lease was replaced");
    elsewhere.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_s_lease_counts_while_it_lasts() {
    let url = left_database().await;
    leave_lease(&url, "gone", false, -1).await;
    let (app, _dir) = node(&url, &[]).await.expect("a lease that is over is nobody's");
    app.stop().await;
    leave_lease(&url, "elsewhere", true, MINUTE).await;
    assert_refused(node(&url, &[]).await);
    let (app, _dir) = node(&url, &[REDIS]).await.expect("both have Redis");
    app.stop().await;
    leave_lease(&url, "third", false, MINUTE).await;
    assert_refused(node(&url, &[REDIS]).await);
}

/// A folder that cannot be written is no reason not to run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_folder_starts() {
    let url = postgres::fresh_database(postgres::shared()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let app = node_in(&file, &url, &[]).await.unwrap();
    assert_refused(node_in(&file, &url, &[]).await);
    app.stop().await;
    node_in(&file, &url, &[]).await.unwrap().stop().await;
}

/// Whoever started meanwhile removed the lease of a node that stood still; it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_gone_is_taken_again() {
    let hub = Hub::start(Backend::Postgres).await;
    const NODES: &str = "SELECT place FROM node_lease";
    let place = hub.rows(NODES).await;
    assert_eq!(place.len(), 1);
    hub.sql("DELETE FROM node_lease").await;
    until("it is renewed", async || hub.rows(NODES).await == place).await;
    let hub::Hub { app, database_url, .. } = hub;
    app.stop().await;
    let (next, _dir) = node(database_url.as_deref().unwrap(), &[]).await.unwrap();
    next.stop().await;
}
