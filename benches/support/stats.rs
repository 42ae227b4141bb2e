//! Figures for people.

use std::{collections::HashMap, time::Duration};

use super::swarm::Receipt;

/// p50 and p99 of nanoseconds, in milliseconds.
pub fn spread(mut nanos: Vec<i64>) -> String {
    if nanos.is_empty() {
        return "-".into();
    }
    nanos.sort_unstable();
    let at = |part: f64| nanos[((nanos.len() - 1) as f64 * part) as usize] as f64 / 1e6;
    format!("{:.2} / {:.2} ms", at(0.5), at(0.99))
}

/// What a publisher noted: the call of an emit, which is its mark, and its return.
pub type Notes = Vec<(u64, u64)>;

/// Delays from emit to receipt.
pub struct Delays {
    /// From the call.
    pub called: Vec<i64>,
    /// From the return; receipt may come first, since the hub announces before it answers.
    pub returned: Vec<i64>,
}

impl Delays {
    /// Joins what the publishers and the sockets noted.
    pub fn join(notes: &Notes, receipts: &[Receipt]) -> Self {
        let returns: HashMap<u64, u64> = notes.iter().copied().collect();
        let mut delays = Self { called: Vec::new(), returned: Vec::new() };
        for receipt in receipts {
            if let Some(returned) = returns.get(&receipt.mark) {
                delays.called.push(receipt.at as i64 - receipt.mark as i64);
                delays.returned.push(receipt.at as i64 - *returned as i64);
            }
        }
        delays
    }
}

/// A small table.
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// With these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self(vec![columns.iter().map(|name| (*name).to_owned()).collect()])
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }

    /// Prints it as Markdown.
    pub fn print(&self) {
        for (index, row) in self.0.iter().enumerate() {
            println!("| {} |", row.join(" | "));
            if index == 0 {
                println!("|{}", "---|".repeat(row.len()));
            }
        }
        println!();
    }
}

/// `count` per second of `time`, in millions.
pub fn millions(count: u64, time: Duration) -> String {
    format!("{:.2} M", count as f64 / time.as_secs_f64() / 1e6)
}
