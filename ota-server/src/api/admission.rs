//! Who may hold a connection. Pure accounting: addresses go in, lanes come out.
//!
//! One peer alone can fill no server, however many connections it opens, and all peers together leave the reserve open, in which only
//! the owner of the control plane's token is heard: whoever has to stop a rollout gets through.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Open connections. Each costs a file descriptor and some 10 KiB.
pub const CONNECTIONS_MAX: usize = 16_384;
/// One peer may hold this part of all connections unless told otherwise: a carrier's NAT gateway and a proxy are one peer each.
const PEER_PART: usize = 8;
/// Connections beyond all others that are kept for the control plane.
const RESERVE: usize = 64;
/// One peer may hold this part of the reserve, so that eight hostile addresses are needed to fill it.
const RESERVE_PART: usize = 8;
/// Files that the server needs besides connections: database, objects, logs.
const OTHER_FILES: usize = 256;

/// What connections are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections of all peers together.
    pub connections_max: usize,
    /// Connections of one peer: one IPv4 address, or one IPv6 network of 64 bits, which is what one subscriber gets.
    pub per_peer_max: usize,
    /// Connections beyond these limits that only the control plane may use.
    pub reserve: usize,
    /// From the connection to the last header of its first request.
    pub first_request: Duration,
    /// From the end of one request to the last header of the next: how long an idle connection is kept.
    pub idle: Duration,
    /// How long a peer may leave an answer unread before it is hung up on.
    pub stall: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::of(CONNECTIONS_MAX, None)
    }
}

impl ConnectionLimits {
    /// For this many connections, of which one peer may hold `per_peer_max` or, without a word about it, an eighth.
    #[must_use]
    pub fn of(connections_max: usize, per_peer_max: Option<usize>) -> Self {
        Self {
            connections_max,
            per_peer_max: per_peer_max.unwrap_or(connections_max / PEER_PART).max(1),
            reserve: RESERVE,
            first_request: Duration::from_secs(10),
            // More than the usual time between two polls.
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(60),
        }
    }

    /// The most connections that fit beside the reserve when the process may open `files_max` files. Without this the limit of the
    /// system would bite first, and it keeps no room for anybody.
    #[must_use]
    pub fn connections_within(files_max: usize) -> usize {
        files_max.saturating_sub(RESERVE + OTHER_FILES).max(1)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Everything.
    Shared,
    /// One request of the control plane.
    Reserve,
}

/// Why a connection is not in the shared lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The peer holds its part.
    Peer,
    /// All connections are in use.
    Server,
}

/// One side of connections, as the limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    shared: usize,
    reserve: usize,
}

impl Held {
    fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Shared => &mut self.shared,
            Lane::Reserve => &mut self.reserve,
        }
    }
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    all: Held,
    peers: HashMap<Peer, Held>,
}

impl Admission {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, all: Held::default(), peers: HashMap::new() }
    }

    /// Counts a new connection of `peer`. The lane is absent when there is none left for it.
    pub(super) fn admit(&mut self, peer: Peer) -> (Option<Lane>, Option<Full>) {
        let (limits, held) = (self.limits, self.peers.entry(peer).or_default());
        let full = if held.shared >= limits.per_peer_max {
            Some(Full::Peer)
        } else {
            (self.all.shared >= limits.connections_max).then_some(Full::Server)
        };
        let reserve_per_peer = (limits.reserve / RESERVE_PART).max(1);
        let lane = match full {
            None => Some(Lane::Shared),
            Some(_) => (self.all.reserve < limits.reserve && held.reserve < reserve_per_peer).then_some(Lane::Reserve),
        };
        if let Some(lane) = lane {
            *held.of(lane) += 1;
            *self.all.of(lane) += 1;
        }
        (lane, full)
    }

    /// Forgets a connection that was let in.
    pub(super) fn release(&mut self, peer: Peer, lane: Lane) {
        let Some(held) = self.peers.get_mut(&peer) else { return };
        *held.of(lane) -= 1;
        *self.all.of(lane) -= 1;
        if *held == Held::default() {
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().unwrap())
    }

    fn admission() -> Admission {
        Admission::new(ConnectionLimits { connections_max: 3, per_peer_max: 2, reserve: 16, ..ConnectionLimits::default() })
    }

    #[test]
    fn one_peer_fills_neither_the_server_nor_the_reserve() {
        let mut admission = admission();
        let (greedy, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let lanes: Vec<_> = (0..6).map(|_| admission.admit(greedy)).collect();
        let full = Some(Full::Peer);
        let (shared, reserve) = ((Some(Lane::Shared), None), (Some(Lane::Reserve), full));
        assert_eq!(lanes, [shared, shared, reserve, reserve, (None, full), (None, full)]);
        assert_eq!(admission.admit(other), shared);
        assert_eq!(admission.admit(other), (Some(Lane::Reserve), Some(Full::Server)));
    }

    #[test]
    fn a_closed_connection_makes_room_and_leaves_nothing_behind() {
        let mut admission = admission();
        let one = peer("192.0.2.1");
        for _ in 0..100 {
            let lanes: Vec<Lane> = (0..4).filter_map(|_| admission.admit(one).0).collect();
            assert_eq!(lanes, [Lane::Shared, Lane::Shared, Lane::Reserve, Lane::Reserve]);
            for lane in lanes {
                admission.release(one, lane);
            }
        }
        assert_eq!((admission.all, admission.peers.len()), (Held::default(), 0));
    }

    #[test]
    fn a_subscriber_is_one_peer_whatever_addresses_it_takes() {
        assert_eq!(peer("2001:db8:0:1::1"), peer("2001:db8:0:1:ffff::2"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[test]
    fn the_limits_leave_files_for_the_reserve() {
        assert_eq!(ConnectionLimits::connections_within(20_000), 19_680);
        assert_eq!(ConnectionLimits::connections_within(10), 1);
        assert_eq!(ConnectionLimits::of(800, None).per_peer_max, 100);
        assert_eq!(ConnectionLimits::of(800, Some(500)).per_peer_max, 500);
    }
}
