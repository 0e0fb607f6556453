"""Which receivers may be called: by the text of the URL, by every address that it leads to."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet_api.callbacks import CallbackPolicy, CallbackRules, RefusedReceiverError, is_public
from taskfleet_api.callbacks.policy import parse_target

POLICY = CallbackPolicy()
PRIVATE = [
    *map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16")),
    *map(IPv4Network, ("0.0.0.0/8", "100.64.0.0/10", "224.0.0.0/4", "240.0.0.0/4", "192.0.2.0/24", "198.18.0.0/15")),
    *map(IPv6Network, ("::/96", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32")),
    *map(IPv6Network, ("2002::/16", "2001::/32", "64:ff9b:1::/48", "100::/64", "64:ff9b::10.0.0.0/104")),
]
inner = st.sampled_from(PRIVATE).flatmap(
    lambda network: st.integers(0, network.num_addresses - 1).map(lambda number: network[number])
)


@given(inner)
def test_no_address_of_an_inner_network_is_public(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address)


@given(st.ip_addresses())
def test_what_is_public_is_so_for_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    """Two tables that were made apart from one another: ours is the stricter one."""
    if is_public(address):
        kinds = ("private", "loopback", "link_local", "multicast", "unspecified", "reserved")
        found = {kind for kind in kinds if getattr(address, f"is_{kind}")}
        assert found <= ({"reserved"} if address in IPv6Network("64:ff9b::/96") else set())


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_nat64_and_never_public_mapped(address: IPv4Address) -> None:
    assert is_public(IPv6Address(f"64:ff9b::{address}")) == is_public(address)
    assert not is_public(IPv6Address(f"::ffff:{address}"))


@pytest.mark.parametrize("text", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::1.1.1.1"])
def test_hosts_of_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/x",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://",
        "http:///x",
        "https://user:secret@example.org/",
        "https://@example.org/",
        "https://example.org/#part",
        "https://example.org:99999/",
        "https://example.org:0/",
        "https://example.org:22/",
        "https://example.org:6x/",
        "https://exämple.org/",
        "https://example.org/a b",
        "https://example.org/\r\nX: y",
        "https://example.org\\@127.0.0.1/",
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:1.1.1.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[::1].example.org/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://api/",
        "https://api.team.svc/",
        "https://api.team.svc.cluster.local:8000/",
        "https://metadata.google.internal/",
        "https://%31%32%37.0.0.1/",
        "https://" + "a" * 64 + ".org/",
        "https://example.org/" + "a" * 2048,
        "https://example.\u212arg/",
    ],
)
def test_what_is_plainly_no_receiver_is_refused_by_its_text(url: str) -> None:
    with pytest.raises(RefusedReceiverError):
        POLICY.check(url)


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("https://example.org", "example.org", "/"),
        ("HTTPS://Example.ORG:443/Hook?x=1&y=%20", "example.org", "/Hook?x=1&y=%20"),
        ("http://example.org.:8080/a", "example.org:8080", "/a"),
        ("http://1.1.1.1/", "1.1.1.1", "/"),
        ("https://[2606:4700:4700:0::1111]:8443/", "[2606:4700:4700::1111]:8443", "/"),
    ],
)
def test_a_receiver_is_taken_apart_once(url: str, authority: str, target: str) -> None:
    found = POLICY.check(url)
    assert (found.authority, found.target) == (authority, target)


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://", "https://example.org"]))
def test_any_text_is_either_refused_or_of_one_plain_form(text: str, start: str) -> None:
    try:
        target = parse_target(start + text)
    except RefusedReceiverError:
        return
    assert target.target.startswith("/") or target.target.startswith("?")
    assert f"{target.authority}{target.target}".isascii()
    assert not set(target.authority) & set("@/\\?# %")


@given(inner)
def test_an_inner_address_is_refused_whatever_stands_beside_it(address: IPv4Address | IPv6Address) -> None:
    target = POLICY.check("https://example.org/")
    for found in ([address], [IPv4Address("1.1.1.1"), address], []):
        with pytest.raises(RefusedReceiverError):
            POLICY.check_addresses(target, found)
    POLICY.check_addresses(target, [IPv4Address("1.1.1.1")])


def test_a_setting_lets_in_networks_and_hosts_and_keeps_others_out() -> None:
    policy = CallbackPolicy(CallbackRules(("10.1.0.0/16", "hooks", "*.team.svc"), ("1.1.1.0/24",)))
    policy.check("http://10.1.2.3/")
    for url in ("http://hooks:8080/", "http://a.team.svc/"):
        policy.check_addresses(policy.check(url), [IPv4Address("10.9.9.9")])
    for url in ("http://10.2.0.1/", "http://team.svc/", "http://xteam.svc/", "http://1.1.1.1/", "http://other/"):
        with pytest.raises(RefusedReceiverError):
            policy.check(url)
    with pytest.raises(RefusedReceiverError):
        policy.check_addresses(policy.check("http://hooks/"), [IPv4Address("1.1.1.1")])
    for way_around in (IPv4Address("1.1.1.1"), IPv6Address("64:ff9b::1.1.1.1")):
        with pytest.raises(RefusedReceiverError):
            policy.check_addresses(policy.check("http://example.org/"), [way_around])
    with pytest.raises(RefusedReceiverError):
        CallbackPolicy(CallbackRules(https_only=True)).check("http://example.org/")


@pytest.mark.parametrize("word", ["10.0.0.0/33", "10.0.0.1/8", "a b", "http://x", "*.*.x", "127.1"])
def test_words_that_mean_nothing_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="neither a host name"):
        CallbackRules(allow=(word,))
    with pytest.raises(ValueError, match="no address"):
        CallbackRules(refuse=("example.org",))
