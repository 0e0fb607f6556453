"""Which URLs may be called back: by their text at submission, by their addresses at each delivery. Pure.

The URL is taken apart once, here; what is sent later is put together from the parts, so that no second parser can
read another host in it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from taskfleet_api.callbacks.addresses import Address, is_public, unwrap_nat64

__all__ = ["MAX_URL_LENGTH", "CallbackPolicy", "CallbackRules", "RefusedReceiverError", "Target", "parse_target"]

MAX_URL_LENGTH = 2048
PORTS = {"http": 80, "https": 443}
LEAST_OTHER_PORT = 1024  # below it live mail, remote shells and the like
# Printable ASCII without what parsers of URLs disagree about.
_CLEAN = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
# Old spellings of IPv4 addresses end in a number, decimal or hexadecimal: 2130706433, 127.1, 0x7f.1.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
_INNER_SUFFIXES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home.arpa", "svc")

Network = IPv4Network | IPv6Network


class RefusedReceiverError(ValueError):
    """The receiver may not be called; the text says why, in a sentence for the caller."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `host` is lower case, without brackets; `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def receiver(self) -> str:
        """Host and port: what shares one limit of calls at a time."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take a URL apart. Raises RefusedReceiverError for what is no plain HTTP URL."""
    if len(url) > MAX_URL_LENGTH:
        raise RefusedReceiverError(f"A callback URL may have at most {MAX_URL_LENGTH} characters.")
    if _CLEAN.fullmatch(url) is None:
        raise RefusedReceiverError("Write the URL in ASCII, with other characters percent-encoded or as Punycode.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise RefusedReceiverError("This is no URL that can be read.") from error
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise RefusedReceiverError("Only http and https URLs can be called.")
    if "@" in parts.netloc:
        raise RefusedReceiverError("A callback URL must not hold a user name or password.")
    if "#" in url:
        raise RefusedReceiverError("A callback URL must not hold a fragment.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, _check_host(host), PORTS[scheme] if port is None else port, target)


def _check_host(host: str) -> str:
    """The host in its one spelling. Raises RefusedReceiverError."""
    if ":" in host:
        if "%" in host or parse_address(host) is None:
            raise RefusedReceiverError("This is no IPv6 address.")
        return str(ip_address(host))
    host = host.removesuffix(".")
    if _NAME.fullmatch(host) is None:
        raise RefusedReceiverError("The URL names no host.")
    if _ENDS_IN_NUMBER.fullmatch(host) and parse_address(host) is None:
        raise RefusedReceiverError("Write an IPv4 address as four decimal numbers.")
    return host


def parse_address(text: str) -> Address | None:
    """The address if the text is one in its strict form."""
    try:
        return ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class CallbackRules:
    """What a deployment says. `allow`: hosts (`*.suffix` too) and networks that may be called although they are not
    public; `refuse`: networks that may not although they are."""

    allow: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    https_only: bool = False
    networks: tuple[Network, ...] = field(init=False)
    names: tuple[str, ...] = field(init=False)
    refused: tuple[Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the words. Raises ValueError for one that is neither a network nor a host."""
        networks, names = _sort(self.allow)
        refused, wrong = _sort(self.refuse)
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no address or network")
        object.__setattr__(self, "networks", networks)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "refused", refused)


def _sort(words: Iterable[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    networks: list[Network] = []
    names: list[str] = []
    for word in words:
        try:
            networks.append(ip_network(word))
        except ValueError:
            name = word.lower().removesuffix(".")
            if _NAME.fullmatch(name.removeprefix("*.")) is None or _ENDS_IN_NUMBER.fullmatch(name):
                raise ValueError(f"{word!r} is neither a host name nor an address or network") from None
            names.append(name)
    return tuple(networks), tuple(names)


class CallbackPolicy:
    """Says which receivers may be called."""

    def __init__(self, rules: CallbackRules | None = None) -> None:
        self._rules = rules or CallbackRules()

    def check(self, url: str) -> Target:
        """The URL taken apart if its text alone does not forbid it. Raises RefusedReceiverError."""
        target = parse_target(url)
        if self._rules.https_only and target.scheme != "https":
            raise RefusedReceiverError("Only https URLs can be called here.")
        if target.port not in PORTS.values() and target.port < LEAST_OTHER_PORT:
            raise RefusedReceiverError(
                f"Port {target.port} cannot be called: use 80, 443 or {LEAST_OTHER_PORT} and up."
            )
        address = parse_address(target.host)
        if address is not None:
            self.check_addresses(target, [address])
        elif not self._names(target.host) and _is_inner(target.host):
            raise RefusedReceiverError(f"{target.host} names a host of an inner network, which is not called.")
        return target

    def check_addresses(self, target: Target, addresses: Sequence[Address]) -> None:
        """Look at all that the host resolves to. Raises RefusedReceiverError if one may not be called, or none is.

        One is enough: a name that points outside and inside is not one that belongs to an honest receiver.
        """
        if not addresses:
            raise RefusedReceiverError("The host has no address.")
        for address in addresses:
            if not self._may_call(target.host, address):
                raise RefusedReceiverError("The host is at an address of an inner or reserved network.")

    def _may_call(self, host: str, address: Address) -> bool:
        if any(one in network for network in self._rules.refused for one in (address, unwrap_nat64(address))):
            return False
        return is_public(address) or any(address in network for network in self._rules.networks) or self._names(host)

    def _names(self, host: str) -> bool:
        """Whether the host itself is allowed by name."""
        return any(
            host.endswith(name[1:]) and host != name[2:] if name.startswith("*.") else host == name
            for name in self._rules.names
        )


def _is_inner(name: str) -> bool:
    """Whether a name is plainly not one of the internet: a single word, or a suffix that inner networks use."""
    if "." not in name:
        return True
    return any(name.endswith(f".{suffix}") for suffix in _INNER_SUFFIXES)
