"""Which certificates are believed when a broker is reached over TLS: by the options of its AMQP URL."""

import ssl

from taskfleet_core.addresses import BrokerAddress

__all__ = ["build_http_verification", "build_tls_context"]


def build_tls_context(address: BrokerAddress) -> ssl.SSLContext:
    """Of `cacertfile` (default: the system's authorities), `verify`, `certfile` and `keyfile`.

    Raises OSError when a file cannot be read, ssl.SSLError when it holds no certificate.
    """
    options = address.options
    context = ssl.create_default_context(cafile=options.get("cacertfile") or options.get("cafile"))
    if options.get("verify") == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    return context


def build_http_verification(url: str | None, address: BrokerAddress) -> ssl.SSLContext | bool:
    """The same for the broker's HTTP APIs, as httpx takes it: they go by the AMQP URL's options, too."""
    if url is None or not url.startswith("https://"):
        return True
    return build_tls_context(address)
