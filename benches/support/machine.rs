//! What the kernel says: CPU time of threads, memory of the process, cost of a flush.

use std::{
    fs,
    io::Write,
    ops::Sub,
    path::Path,
    time::{Duration, Instant},
};

/// The hub's threads for conversations with its database.
const STORE: &str = "heartwire-db";

/// CPU time by part.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// The hub's own threads.
    pub hub: Duration,
    /// The threads that run SQLite.
    pub sqlite: Duration,
}

impl Cpu {
    /// Both.
    pub fn all(&self) -> Duration {
        self.hub + self.sqlite
    }
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        Self { hub: self.hub - earlier.hub, sqlite: self.sqlite - earlier.sqlite }
    }
}

/// CPU time (user and system) of this process's threads, by their names.
pub fn cpu(hub: &str) -> Cpu {
    let mut cpu = Cpu { hub: Duration::ZERO, sqlite: Duration::ZERO };
    for task in fs::read_dir("/proc/self/task").expect("/proc").flatten() {
        // A thread may end meanwhile.
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let spent = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        let spent = Duration::from_nanos(spent);
        match read("comm").trim() {
            name if name == hub || name == STORE => cpu.hub += spent,
            name if name.starts_with("sqlx-sqlite") => cpu.sqlite += spent,
            _ => {}
        }
    }
    cpu
}

/// Memory that this process alone accounts for, in KiB.
pub fn pss_kib() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("/proc/self/smaps_rollup");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Memory in the kernel's TCP buffers, of the whole machine, in KiB.
pub fn tcp_kib() -> u64 {
    let sockets = fs::read_to_string("/proc/net/sockstat").expect("/proc/net/sockstat");
    let tcp = sockets.lines().find(|line| line.starts_with("TCP:")).expect("TCP");
    let pages: u64 = tcp.rsplit(' ').next().and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4
}

/// Lets this process have as many sockets as it may.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// One line about the machine.
pub fn facts(folder: &Path) -> String {
    fs::create_dir_all(folder).expect("the folder for data");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let (middle, worst) = flush_cost(folder);
    format!(
        "{cores} cores ({}), load {load}; {} on {}: write + fsync of 4 KiB p50 {middle:.0?}, p99 {worst:.0?}\n",
        model.unwrap_or("?"),
        folder.display(),
        filesystem(folder),
    )
}

fn flush_cost(folder: &Path) -> (Duration, Duration) {
    let mut file = tempfile::tempfile_in(folder).expect("a temporary file");
    let mut costs: Vec<Duration> = (0..300)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[1; 4096]).expect("write");
            file.sync_all().expect("fsync");
            start.elapsed()
        })
        .collect();
    costs.sort_unstable();
    (costs[150], costs[297])
}

/// Type of the file system under a folder; a flush on tmpfs costs nothing and says nothing.
fn filesystem(folder: &Path) -> String {
    let folder = folder.canonicalize().expect("the folder for data");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let under = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    under.map_or("?", |(_, kind)| kind).to_owned()
}
