"""Which IP addresses belong to the public internet. Pure.

What is not plainly public is refused: private, loopback, link-local, shared, multicast, reserved and documentation
ranges, and every form in which IPv6 wraps an IPv4 address, except NAT64, whose IPv4 address is judged instead.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

__all__ = ["Address", "is_public", "unwrap_nat64"]

Address = IPv4Address | IPv6Address

# All that is routed on the internet today; mapped (::ffff:0:0/96), compatible (::/96), unique local, link-local,
# site-local and multicast addresses lie outside.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# An IPv6-only network reaches IPv4 hosts through these: the last 32 bits say which.
_NAT64 = IPv6Network("64:ff9b::/96")
# Within 2000::/3, but not hosts of their own: Teredo, ORCHID and others, documentation, 6to4.
_SPECIAL_IPV6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
# `is_global` of some Python versions does not know all of these.
_SPECIAL_IPV4 = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)


def unwrap_nat64(address: Address) -> Address:
    """The IPv4 address that a NAT64 gateway would connect to; any other address as it is."""
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address


def is_public(address: Address) -> bool:
    """Whether the address is one of a host on the public internet."""
    address = unwrap_nat64(address)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None or address not in _GLOBAL_UNICAST:
            return False
        return not any(address in network for network in _SPECIAL_IPV6)
    return not any(address in network for network in _SPECIAL_IPV4)
