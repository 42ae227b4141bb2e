//! What strangers may do before they have said who they are: so many look-ups a second, and so many
//! sockets waiting for their auth frame, from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use super::Settings;
use crate::error::{Error, Result};

/// A client may use its look-ups of so many seconds at once.
const BURST: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Addresses remembered before the idle ones are dropped.
const REMEMBERED: usize = 10_000;

/// Counts by address.
pub struct Door {
    lookups: DefaultKeyedRateLimiter<IpAddr>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
    most_waiting: usize,
}

impl Door {
    /// Nobody has come yet.
    pub fn new(settings: &Settings) -> Arc<Self> {
        let rate = NonZeroU32::new(settings.lookups_per_second).unwrap_or(NonZeroU32::MIN);
        Arc::new(Self {
            lookups: RateLimiter::keyed(Quota::per_second(rate).allow_burst(rate.saturating_mul(BURST))),
            waiting: Mutex::default(),
            most_waiting: settings.max_unauthenticated,
        })
    }

    /// Counts a look-up.
    pub fn look_up(&self, from: IpAddr) -> Result<()> {
        if from.is_loopback() {
            return Ok(());
        }
        if self.lookups.len() > REMEMBERED {
            self.lookups.retain_recent();
        }
        self.lookups.check_key(&network(from)).map_err(|_| too_many())
    }

    /// Counts a socket that has not authenticated, until the place is dropped.
    pub fn wait(self: &Arc<Self>, from: IpAddr) -> Result<Place> {
        let from = network(from);
        let mut waiting = self.waiting.lock();
        let count = waiting.entry(from).or_default();
        if *count >= self.most_waiting && !from.is_loopback() {
            return Err(too_many());
        }
        *count += 1;
        drop(waiting);
        Ok(Place { door: self.clone(), from })
    }
}

/// A place among those who wait.
pub struct Place {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.from);
            }
        }
    }
}

/// What one client can call its own: an address, and with IPv6 a whole network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

fn too_many() -> Error {
    Error::too_many("too_many_from_address", "too many connections from this address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Values;

    #[test]
    fn an_address_has_its_places_and_its_look_ups_and_others_have_theirs() {
        let settings = Settings { max_unauthenticated: 2, lookups_per_second: 1, ..read() };
        let door = Door::new(&settings);
        let [a, b, near, home] =
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "127.0.0.1"].map(|ip| ip.parse().expect("an address"));
        let places = [door.wait(a).expect("one"), door.wait(near).expect("two, of the same network")];
        assert!(door.wait(a).is_err());
        assert!(door.wait(b).is_ok());
        drop(places);
        assert!(door.wait(a).is_ok());
        assert!(door.waiting.lock().is_empty(), "what is over is forgotten");

        assert_eq!((0..20).filter(|_| door.look_up(b).is_ok()).count(), BURST.get() as usize);
        assert!((0..20).all(|_| door.look_up(home).is_ok()));
        assert!(door.look_up(a).is_ok());
    }

    fn read() -> Settings {
        Settings::read(&Values::default()).expect("defaults")
    }
}
