//! At which addresses people reach us: the machine's own, or the public ones that an operator names. Filtered: what nobody
//! outside can reach is not told.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use sfu::{Candidate, CandidateKind, Transport};

use super::settings::{Loopback, MediaSettings};

/// The most addresses that are offered: each costs every client checks.
const ADDRESSES_MAX: usize = 8;

/// The candidates of a UDP port and the TCP port of the same number.
///
/// # Errors
/// When the system does not tell its addresses.
pub(super) fn of_port(settings: &MediaSettings, port: u16) -> nix::Result<Vec<Candidate>> {
    let chosen = choose(settings, &own_addresses()?);
    let candidate = |transport, (address, local): &(IpAddr, IpAddr)| Candidate {
        address: SocketAddr::new(*address, port),
        local: SocketAddr::new(*local, port),
        transport,
        kind: CandidateKind::Host,
    };
    let over = |transport| chosen.iter().map(move |both| candidate(transport, both));
    Ok(over(Transport::Udp).chain(over(Transport::Tcp)).collect())
}

fn own_addresses() -> nix::Result<Vec<IpAddr>> {
    let up = getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(up.filter_map(ip).collect())
}

/// What is told and at which address of ours it arrives. A public address stands for our first one of its family: behind a NAT
/// that is where its datagrams come.
fn choose(settings: &MediaSettings, own: &[IpAddr]) -> Vec<(IpAddr, IpAddr)> {
    let reachable: Vec<IpAddr> = own.iter().copied().filter(|ip| is_reachable(*ip)).collect();
    let loopback = own.iter().copied().filter(IpAddr::is_loopback);
    if !settings.public_ips.is_empty() {
        let told = settings.public_ips.iter().map(|public| (*public, behind(*public, own, &reachable)));
        return told.take(ADDRESSES_MAX).collect();
    }
    let same = |ip: IpAddr| (ip, ip);
    let mut told: Vec<_> = reachable.iter().copied().map(same).take(ADDRESSES_MAX).collect();
    if settings.loopback == Loopback::Offered || told.is_empty() {
        told.extend(loopback.map(same));
    }
    told
}

fn behind(public: IpAddr, own: &[IpAddr], reachable: &[IpAddr]) -> IpAddr {
    if own.contains(&public) {
        return public;
    }
    let same_family = |ip: &&IpAddr| ip.is_ipv4() == public.is_ipv4();
    reachable.iter().find(same_family).copied().unwrap_or(public)
}

fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_loopback() || is_link_local(v6) || v6.is_unspecified()),
    }
}

/// fe80::/10 (RFC 4291, section 2.5.6).
fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xFFC0 == 0xFE80
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::env::Env;

    fn told(public: &str, loopback: Loopback, own: &[&str]) -> Vec<String> {
        let env = Env::from_pairs([("WEBRTC_PUBLIC_IP", public)]);
        let settings = MediaSettings::from_env(&env, loopback).unwrap();
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        choose(&settings, &own).iter().map(|(told, local)| format!("{told} at {local}")).collect()
    }

    const OWN: &[&str] = &["127.0.0.1", "::1", "10.0.0.5", "fe80::1", "169.254.1.1", "2001:db8::5"];

    #[test]
    fn what_nobody_reaches_is_not_told() {
        assert_eq!(told("", Loopback::Hidden, OWN), ["10.0.0.5 at 10.0.0.5", "2001:db8::5 at 2001:db8::5"]);
    }

    #[test]
    fn loopback_is_told_on_this_machine_and_where_there_is_nothing_else() {
        assert_eq!(told("", Loopback::Offered, OWN).len(), 4);
        assert_eq!(told("", Loopback::Hidden, &["127.0.0.1"]), ["127.0.0.1 at 127.0.0.1"]);
    }

    #[test]
    fn a_public_address_stands_for_the_one_behind_the_nat() {
        assert_eq!(told("203.0.113.7", Loopback::Offered, OWN), ["203.0.113.7 at 10.0.0.5"]);
        assert_eq!(told("2001:db8::5", Loopback::Hidden, OWN), ["2001:db8::5 at 2001:db8::5"]);
    }
}
