//! What a cache dropped lately. A value that was read from the store before it was dropped, and would be stored after,
//! may be stale; one that nobody dropped meanwhile is not, however much else was.

use std::collections::VecDeque;

/// Drops that are remembered.
const MOST: usize = 4096;

/// The last of them; kept under the cache's own lock.
#[derive(Debug)]
pub struct Drops<T> {
    /// How many there ever were.
    count: u64,
    recent: VecDeque<T>,
}

impl<T> Default for Drops<T> {
    fn default() -> Self {
        Self { count: 0, recent: VecDeque::new() }
    }
}

impl<T> Drops<T> {
    /// To be taken before the store is read.
    pub fn mark(&self) -> u64 {
        self.count
    }

    /// Something is dropped.
    pub fn note(&mut self, what: T) {
        self.count += 1;
        self.recent.push_back(what);
        if self.recent.len() > MOST {
            self.recent.pop_front();
        }
    }

    /// Everything is.
    pub fn note_all(&mut self) {
        self.count += 1;
        self.recent.clear();
    }

    /// Whether something that `is_it` may have been dropped after the mark.
    pub fn since(&self, mark: u64, is_it: impl Fn(&T) -> bool) -> bool {
        let new = (self.count - mark) as usize;
        new > self.recent.len() || self.recent.iter().rev().take(new).any(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_dropped_after_the_mark_is_stale() {
        let mut drops = Drops::default();
        drops.note(1);
        let mark = drops.mark();
        assert!(!drops.since(mark, |_| true));
        drops.note(2);
        assert!(drops.since(mark, |dropped| *dropped == 2));
        assert!(!drops.since(mark, |dropped| *dropped == 1), "before the mark");
        assert!(!drops.since(drops.mark(), |_| true));
    }

    #[test]
    fn whatever_is_not_remembered_may_have_been_dropped() {
        let mut drops = Drops::default();
        let mark = drops.mark();
        (0..=MOST).for_each(|number| drops.note(number));
        assert!(drops.since(mark, |_| false));
        let mark = drops.mark();
        drops.note_all();
        assert!(drops.since(mark, |_| false));
        let mark = drops.mark();
        drops.note(0);
        assert!(!drops.since(mark, |dropped| *dropped == 1));
    }
}
