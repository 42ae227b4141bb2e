//! When more than half of at least ten daemons look dead within half a minute, it is more likely the
//! network, or us: the brake holds all verdicts until a fifth of those daemons is back, or for a
//! stale window. Then it lets them go, with a fresh grace, and is ready for the next time.
//!
//! Daemons are counted, not runtimes: a machine with many of them is one thing that can fail.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    ids::{UserId, WorkspaceId},
    time::Timestamp,
};

/// The brake needs at least so many daemons.
const LEAST: usize = 10;
/// A daemon that was condemned still counts for so long: a silence that spreads is more than what is
/// left of it.
const WINDOW: Duration = Duration::from_secs(30);

/// A machine: what counts.
pub(super) type DaemonKey = (WorkspaceId, Option<UserId>, Arc<str>);

/// What the brake says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Verdicts may be given.
    Free,
    /// They are held from now on.
    Pulled,
    /// They are still held.
    Held,
    /// They may be given again, after a fresh grace.
    LetGo,
}

/// The brake of one kind of verdict.
pub(super) struct Brake {
    /// Which, for the log.
    on: &'static str,
    /// It is held no longer than this.
    longest: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    condemned: HashMap<DaemonKey, Timestamp>,
    /// Those it has let go and that still look dead: they do not pull it again.
    let_go: HashSet<DaemonKey>,
}

struct Held {
    since: Timestamp,
    dead: HashSet<DaemonKey>,
}

impl Brake {
    pub(super) fn new(on: &'static str, longest: Duration) -> Self {
        Self { on, longest, state: Mutex::default() }
    }

    /// Judges by who looks dead now, who is known to be alive, and how many others are alive.
    pub(super) fn judge(
        &self,
        mut dead: HashSet<DaemonKey>,
        alive: &HashSet<DaemonKey>,
        others: usize,
        now: Timestamp,
    ) -> Ruling {
        let mut state = self.state.lock();
        let State { held, condemned, let_go } = &mut *state;
        let_go.retain(|daemon| dead.contains(daemon));
        // While it is held nobody is condemned, and who was does not come back by waiting.
        condemned.retain(|daemon, at| !alive.contains(daemon) && (held.is_some() || now.since(*at) < WINDOW));
        dead.extend(condemned.keys().cloned());
        dead.retain(|daemon| !let_go.contains(daemon));
        let all = dead.len() + alive.len() + others;
        let Some(Held { since, dead: first }) = held else {
            if all < LEAST || dead.len() * 2 <= all {
                return Ruling::Free;
            }
            tracing::error!(
                dead = dead.len(),
                of = all,
                "more than half of the daemons look dead at once: {} is held",
                self.on
            );
            *held = Some(Held { since: now, dead });
            return Ruling::Pulled;
        };
        let back = first.iter().filter(|daemon| !dead.contains(*daemon)).count();
        if back * 5 < first.len() && now.since(*since) < self.longest {
            return Ruling::Held;
        }
        tracing::warn!(back, of = first.len(), "{} goes on, after a fresh grace", self.on);
        *held = None;
        condemned.clear();
        *let_go = dead;
        Ruling::LetGo
    }

    /// A verdict was given on a daemon.
    pub(super) fn condemned(&self, daemon: DaemonKey, now: Timestamp) {
        let mut state = self.state.lock();
        if !state.let_go.contains(&daemon) {
            state.condemned.insert(daemon, now);
        }
    }

    /// Nothing looks dead, or it is another's to judge.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// Whether it waits to be let go.
    pub(super) fn is_pulled(&self) -> bool {
        self.state.lock().held.is_some()
    }

    /// Whether verdicts are held now.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        self.state.lock().held.as_ref().is_some_and(|held| now.since(held.since) < self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(150);

    struct Fleet(WorkspaceId, Brake);

    impl Fleet {
        fn new() -> Self {
            Self(WorkspaceId::fresh(), Brake::new("a test", LONGEST))
        }

        fn daemon(&self, number: usize) -> DaemonKey {
            (self.0, None, number.to_string().as_str().into())
        }

        fn daemons(&self, range: std::ops::Range<usize>) -> HashSet<DaemonKey> {
            range.map(|number| self.daemon(number)).collect()
        }

        /// Of twenty these look dead, and the others are alive.
        fn judge(&self, dead: std::ops::Range<usize>, second: i64) -> Ruling {
            let dead = self.daemons(dead);
            let alive = self.daemons(0..20).difference(&dead).cloned().collect();
            self.1.judge(dead, &alive, 0, at(second))
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn it_works_again_after_it_has_let_go() {
        let fleet = Fleet::new();
        for round in 0..3 {
            let began = round * 1000;
            assert_eq!(fleet.judge(0..10, began), Ruling::Free, "half is not more than half");
            assert_eq!(fleet.judge(0..11, began + 1), Ruling::Pulled, "round {round}");
            assert_eq!(fleet.judge(0..11, began + 150), Ruling::Held);
            assert!(fleet.1.is_held(at(began + 150)) && !fleet.1.is_held(at(began + 151)));
            assert_eq!(fleet.judge(0..11, began + 151), Ruling::LetGo);
            assert_eq!(fleet.judge(0..11, began + 181), Ruling::Free, "those do not pull it again");
            // All of them come back, and it is forgotten that they were let go.
            assert_eq!(fleet.judge(0..0, began + 200), Ruling::Free);
        }
    }

    #[test]
    fn a_fifth_that_is_back_lets_the_others_go_and_more_deaths_do_not_hide_it() {
        let fleet = Fleet::new();
        assert_eq!(fleet.judge(0..15, 0), Ruling::Pulled);
        assert_eq!(fleet.judge(2..15, 10), Ruling::Held, "two of fifteen");
        assert_eq!(fleet.judge(3..20, 20), Ruling::LetGo, "three of them, though five others died");
    }

    #[test]
    fn those_condemned_a_moment_ago_count_and_do_not_come_back_by_waiting() {
        let fleet = Fleet::new();
        let alive = |dead: usize| fleet.daemons(dead..20);
        assert_eq!(fleet.1.judge(fleet.daemons(0..8), &alive(8), 0, at(0)), Ruling::Free);
        (0..8).for_each(|number| fleet.1.condemned(fleet.daemon(number), at(0)));
        // Eight are offline, six more look dead, six are left.
        assert_eq!(fleet.1.judge(fleet.daemons(8..14), &alive(14), 0, at(29)), Ruling::Pulled);
        assert_eq!(fleet.1.judge(fleet.daemons(8..14), &alive(14), 0, at(100)), Ruling::Held);
        // Three of the condemned have a socket again.
        let mut back = alive(14);
        back.extend(fleet.daemons(0..3));
        assert_eq!(fleet.1.judge(fleet.daemons(8..14), &back, 0, at(101)), Ruling::LetGo);
        (8..14).for_each(|number| fleet.1.condemned(fleet.daemon(number), at(131)));
        assert_eq!(fleet.1.judge(HashSet::new(), &back, 0, at(132)), Ruling::Free, "it has let these go");
    }

    #[test]
    fn who_was_condemned_long_ago_does_not_count() {
        let fleet = Fleet::new();
        (0..8).for_each(|number| fleet.1.condemned(fleet.daemon(number), at(0)));
        assert_eq!(fleet.1.judge(fleet.daemons(8..14), &fleet.daemons(14..20), 0, at(30)), Ruling::Free);
    }

    #[test]
    fn few_daemons_do_not_pull_it() {
        let fleet = Fleet::new();
        assert_eq!(fleet.1.judge(fleet.daemons(0..9), &HashSet::new(), 0, at(0)), Ruling::Free);
        assert_eq!(fleet.1.judge(fleet.daemons(0..10), &HashSet::new(), 0, at(0)), Ruling::Pulled);
    }
}
