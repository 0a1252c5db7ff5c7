//! Whose headers are believed.

use ipnet::IpNet;
use std::net::IpAddr;

/// The networks from which a PROXY header is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// These networks, and no other.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether a header from `address` is believed. An IPv4 address in IPv6 form is what it
    /// stands for.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Text that names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address or a network is wanted, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError;

/// A network in CIDR notation, or a single address.
///
/// # Errors
/// It is neither.
pub fn network(text: &str) -> Result<IpNet, NetworkError> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| NetworkError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        let networks = ["10.1.0.0/16", "192.0.2.7", "fd00:1::/32", "::ffff:0:0/96"];
        let networks = networks.map(|text| network(text).expect("a network"));
        let trusted = Trusted::new(networks.to_vec());
        let cases = [
            ("10.1.0.0", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd00:1:ffff::1", true),
            ("fd00:2::1", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.2.2.3", false),
        ];
        for (address, is_in) in cases {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(trusted.contains(address), is_in, "{address}");
        }
        assert!(!Trusted::default().contains(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0", "fd00::/129", "localhost", "10.0.0.0/8,"] {
            assert_eq!(network(text), Err(NetworkError), "{text:?}");
        }
    }
}
