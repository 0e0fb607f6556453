"""TCP ports on this machine."""

import errno
import socket

from taskfleet_core.errors import InvalidInputError

__all__ = ["check_port", "find_free_port"]


def check_port(host: str, port: int, option: str) -> None:
    """Raises InvalidInputError when nothing can listen there, naming the option to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server: a closed one's rest is no obstacle
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InvalidInputError(
                    f"port {port} on {host} is in use: stop what listens there, or choose another with {option}"
                ) from error
            raise InvalidInputError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def find_free_port(preferred: int | None = None) -> int:
    """A free port on 127.0.0.1; the preferred one if it is."""
    for port in (preferred or 0, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InvalidInputError("no free TCP port on 127.0.0.1")
