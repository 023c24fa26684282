//! Which addresses the server may connect to on a tenant's behalf.
//!
//! A tenant names a URL, the server connects from inside of the operator's network: without rules
//! that would let a tenant reach what only the operator may (server-side request forgery). So only
//! addresses of the public internet are allowed, and networks that the operator lists.
//!
//! The rule is an allow list where there can be one: of IPv6 only `2000::/3` is handed out, so that
//! loopback, link-local, unique local, multicast, IPv4-mapped, NAT64 (`64:ff9b::/96`) and all that
//! has no use yet are refused without being named. Source: the special-purpose address registries
//! of IANA (RFC 6890 and its updates).

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks of IPv4 that are not of the public internet.
const SPECIAL_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 0, 8), "means this network"),
    (v4(10, 0, 0, 0, 8), "is private"),
    (v4(100, 64, 0, 0, 10), "is shared by a provider's customers"),
    (v4(127, 0, 0, 0, 8), "is this machine"),
    (v4(169, 254, 0, 0, 16), "is link-local"),
    (v4(172, 16, 0, 0, 12), "is private"),
    (v4(192, 0, 0, 0, 24), "is for protocols"),
    (v4(192, 0, 2, 0, 24), "is for documentation"),
    (v4(192, 88, 99, 0, 24), "was for 6to4 relays"),
    (v4(192, 168, 0, 0, 16), "is private"),
    (v4(198, 18, 0, 0, 15), "is for benchmarks"),
    (v4(198, 51, 100, 0, 24), "is for documentation"),
    (v4(203, 0, 113, 0, 24), "is for documentation"),
    (v4(224, 0, 0, 0, 4), "is multicast"),
    (v4(240, 0, 0, 0, 4), "is reserved"),
];

/// The only network of IPv6 that is handed out.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);

/// Networks within it that are not of the public internet, or stand for addresses of IPv4.
const SPECIAL_V6: [(Ipv6Net, &str); 4] = [
    // Teredo (2001::/32) among them, which carries addresses of IPv4.
    (v6([0x2001, 0], 23), "is for protocols"),
    (v6([0x2001, 0xdb8], 32), "is for documentation"),
    (v6([0x2002, 0], 16), "stands for an IPv4 address (6to4)"),
    (v6([0x3fff, 0], 20), "is for documentation"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 2], prefix: u8) -> Ipv6Net {
    let address = std::net::Ipv6Addr::new(start[0], start[1], 0, 0, 0, 0, 0, 0);
    Ipv6Net::new_assert(address, prefix)
}

/// An address that must not be connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address {address} {why}")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub why: &'static str,
}

/// What may be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether `http` will do instead of `https`.
    pub allow_http: bool,
    /// Networks that are allowed although they are not of the public internet. They are compared
    /// with the address as it is: `127.0.0.0/8` does not allow `::ffff:127.0.0.1`.
    pub allowed: Vec<IpNet>,
}

impl Rules {
    /// Says whether an address may be connected to.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        if self.allowed.iter().any(|net| net.contains(&address)) {
            return Ok(());
        }
        match special(address) {
            None => Ok(()),
            Some(why) => Err(Refused { address, why }),
        }
    }
}

/// What an address is when it is not one of the public internet.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => SPECIAL_V4
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, why)| *why),
        IpAddr::V6(address) if !GLOBAL_V6.contains(&address) => {
            Some("is not of the public internet")
        }
        IpAddr::V6(address) => SPECIAL_V6
            .iter()
            .find(|(net, _)| net.contains(&address))
            .map(|(_, why)| *why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn refused(text: &str) -> bool {
        let address = text.parse().expect("an address");
        Rules::default().check(address).is_err()
    }

    #[test]
    fn only_the_public_internet_is_allowed() {
        for inside in [
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(refused(inside), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(!refused(outside), "{outside}");
        }
    }

    #[test]
    fn listed_networks_are_allowed_as_they_are() {
        let rules = Rules {
            allow_http: false,
            allowed: vec![
                "10.1.0.0/16".parse().expect("a network"),
                "fd00::/8".parse().expect("a network"),
            ],
        };
        let allowed = |text: &str| rules.check(text.parse().expect("an address")).is_ok();
        assert!(allowed("10.1.2.3") && allowed("fd00::1") && allowed("8.8.8.8"));
        assert!(!allowed("10.2.0.1") && !allowed("fc00::1") && !allowed("::ffff:10.1.2.3"));
    }

    proptest! {
        /// As the standard library sees it, where it has a say.
        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits: u32, wide: u128) {
            let four = Ipv4Addr::from_bits(bits);
            if four.is_private() || four.is_loopback() || four.is_link_local() || four.is_multicast()
                || four.is_broadcast() || four.is_documentation() || four.is_unspecified() {
                prop_assert!(Rules::default().check(four.into()).is_err());
            }
            prop_assert!(Rules::default().check(four.to_ipv6_mapped().into()).is_err());
            prop_assert!(Rules::default().check(four.to_ipv6_compatible().into()).is_err());
            let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(bits));
            prop_assert!(Rules::default().check(nat64.into()).is_err());
            let six = Ipv6Addr::from_bits(wide);
            if six.is_unique_local() || six.is_unicast_link_local() || six.is_multicast() {
                prop_assert!(Rules::default().check(six.into()).is_err());
            }
        }
    }
}
