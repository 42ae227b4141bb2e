//! A lease: the last that was heard of a runtime. Its value is compared, never dated: which beat it
//! was, over which connection, of which node. So no two nodes' clocks have to agree.

use std::fmt;

/// The value under a runtime's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// What it says.
    pub state: State,
    /// The node that wrote it.
    pub node: u64,
    /// The socket that the beat came over; 0 for HTTP.
    pub connection: u64,
    /// The node's count of beats: no two values are the same.
    pub number: u64,
}

/// What a lease says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A beat came.
    Alive,
    /// The socket that the last beat came over has ended; nothing was heard since.
    Ended,
    /// The runtime is being taken offline: whoever touches it reads the row.
    Marked,
}

impl Lease {
    /// The same, saying something else.
    pub fn saying(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let state = match parts.next()? {
            "alive" => State::Alive,
            "ended" => State::Ended,
            "marked" => State::Marked,
            _ => return None,
        };
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let lease = Self { state, node: number()?, connection: number()?, number: number()? };
        parts.next().is_none().then_some(lease)
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Alive => "alive",
            State::Ended => "ended",
            State::Marked => "marked",
        };
        write!(f, "{state}:{:x}:{:x}:{:x}", self.node, self.connection, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        for state in [State::Alive, State::Ended, State::Marked] {
            let lease = Lease { state, node: u64::MAX, connection: 0, number: 17 };
            assert_eq!(Lease::parse(&lease.to_string()), Some(lease));
        }
        for bad in ["", "1", "alive", "alive:1:2", "alive:1:2:3:4", "dead:1:2:3", "alive:x:2:3"] {
            assert_eq!(Lease::parse(bad), None, "{bad}");
        }
    }
}
