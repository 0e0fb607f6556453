"""Parsing server-sent events, line by line. Pure."""

from dataclasses import dataclass, field

__all__ = ["SseMessage", "SseParser"]


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One dispatched event of a stream."""

    event: str
    data: str
    id: str


@dataclass(slots=True)
class SseParser:
    """Feed it lines without their ends; it gives a message at each blank line that closes one."""

    last_id: str = ""
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> SseMessage | None:
        """The message that this line completes, if any."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case _:
                pass  # comments (empty name), retry and unknown fields
        return None

    def _dispatch(self) -> SseMessage | None:
        event, data = self._event or "message", "\n".join(self._data)
        empty = not self._data
        self._event, self._data = "", []
        return None if empty else SseMessage(event, data, self.last_id)
