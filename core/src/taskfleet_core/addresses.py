"""Broker URLs taken apart. The parts print without the password."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

__all__ = [
    "BrokerAddress",
    "add_authority",
    "is_amqp_url",
    "is_redis_url",
    "parse_amqp_url",
    "redact_url",
    "replace_login",
    "split_http_login",
]

AMQP_SCHEMES = {"amqp": False, "amqps": True, "pyamqp": False, "pyamqps": True}
REDIS_SCHEMES = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}

# Where a URL of each kind names the certificate authority that its server must be signed by. On plain AMQP the
# management API may still be served over TLS, and it goes by the options of the AMQP URL.
_AUTHORITY_OPTIONS = {
    **dict.fromkeys(AMQP_SCHEMES, "cacertfile"),
    **{scheme: "ssl_ca_certs" for scheme, tls in REDIS_SCHEMES.items() if tls},
    **dict.fromkeys(("postgresql", "postgres"), "sslrootcert"),
    **dict.fromkeys(("mysql", "mariadb"), "ssl-ca"),
}


@dataclass(frozen=True)
class BrokerAddress:
    """One AMQP server and how to log in. `options` are the query parameters (`cacertfile`, `verify`, ...)."""

    host: str
    port: int
    tls: bool = False
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """For logs and errors."""
        return f"{self.host}:{self.port}"

    @property
    def url_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        """The URL again, credentials included: never log it."""
        scheme = "amqps" if self.tls else "amqp"
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{login}@{self.url_host}:{self.port}/{quote(self.virtual_host, safe='')}"


def _scheme(url: str) -> str:
    return url.split("://", 1)[0].lower() if "://" in url else ""


def is_amqp_url(url: str) -> bool:
    """Whether the URL names RabbitMQ."""
    return _scheme(url) in AMQP_SCHEMES


def is_redis_url(url: str) -> bool:
    """Whether the URL names Redis or Valkey."""
    return _scheme(url) in REDIS_SCHEMES


def parse_amqp_url(url: str) -> tuple[BrokerAddress, ...]:
    """The servers of an AMQP URL in Celery's spelling: several are separated by `;`, an empty virtual host is `/`.

    Raises ValueError without repeating the URL.
    """
    return tuple(_parse_one(part.strip()) for part in url.split(";") if part.strip())


def _parse_one(url: str) -> BrokerAddress:
    if not is_amqp_url(url):
        raise ValueError("not an AMQP URL: expected amqp:// or amqps://")
    tls = AMQP_SCHEMES[_scheme(url)]
    try:
        parts = urlsplit(url)
        port = parts.port or (5671 if tls else 5672)
    except ValueError:
        raise ValueError("not a usable AMQP URL: is the port a number?") from None
    return BrokerAddress(
        host=parts.hostname or "127.0.0.1",
        port=port,
        tls=tls,
        user=unquote(parts.username) if parts.username is not None else "guest",
        password=unquote(parts.password) if parts.password is not None else "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
        options=dict(parse_qsl(parts.query)),
    )


def add_authority(url: str, ca_file: str | None) -> str:
    """The URL of a broker, store or database with the file of the authority to trust, unless it names one itself.

    Several AMQP servers are separated by `;`: each gets it. URLs that cannot have one are returned as they are.
    """
    if ca_file is None:
        return url
    if is_amqp_url(url) and ";" in url:
        return ";".join(add_authority(part.strip(), ca_file) for part in url.split(";") if part.strip())
    option = _AUTHORITY_OPTIONS.get(_scheme(url).partition("+")[0])
    query = urlsplit(url).query
    if option is None or option in dict(parse_qsl(query)):
        return url
    return f"{url}{'&' if query else '?'}{urlencode({option: ca_file})}"


def replace_login(url: str, user: str, password: str) -> str:
    """The same broker for another user; each of several AMQP servers, separated by `;`, gets the login."""
    if ";" in url:
        return ";".join(replace_login(part.strip(), user, password) for part in url.split(";") if part.strip())
    parts = urlsplit(url)
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{login}@{parts.netloc.rsplit('@', 1)[-1]}").geturl()


def split_http_login(url: str, address: BrokerAddress) -> tuple[str, tuple[str, str]]:
    """The base of a broker's HTTP API without credentials, and the login: the URL's own, else the AMQP address's."""
    parts = urlsplit(url)
    user = unquote(parts.username) if parts.username else address.user
    password = unquote(parts.password) if parts.password else address.password
    return f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path.rstrip('/')}", (user, password)


def redact_url(url: str) -> str:
    """Scheme, host and port of any URL, for logs and errors."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}"
    except ValueError:
        return "(unreadable URL)"
