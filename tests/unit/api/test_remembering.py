"""Answers that are trusted for a while."""

import asyncio

import pytest

from taskfleet_api.remembering import Remembered
from taskfleet_core.errors import UnavailableError


def make(**options: float) -> Remembered[str, str | None]:
    values = {"trust_seconds": 60.0, "stale_seconds": 60.0, **options}
    return Remembered(worth=bool, max_entries=3, **values)  # type: ignore[arg-type]


async def fail() -> str | None:
    raise UnavailableError("away")


async def answer() -> str | None:
    return "yes"


async def test_one_question_for_all_who_ask_and_for_a_while_after() -> None:
    asked = []

    async def ask() -> str:
        asked.append(1)
        await asyncio.sleep(0.01)
        return "yes"

    remembered = make()
    assert await asyncio.gather(*(remembered.get("a", ask) for _ in range(5))) == ["yes"] * 5
    assert await remembered.get("a", fail) == "yes"
    assert len(asked) == 1
    remembered.forget()
    with pytest.raises(UnavailableError):
        await remembered.get("a", fail)


async def test_who_gives_up_waiting_cancels_nobody_else() -> None:
    remembered, go = make(), asyncio.Event()

    async def ask() -> str:
        await go.wait()
        return "yes"

    first = asyncio.create_task(remembered.get("a", ask))
    second = asyncio.create_task(remembered.get("a", ask))
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == "yes"


async def test_an_outage_keeps_what_is_of_worth_and_not_too_old() -> None:
    async def nothing() -> None:
        return None

    remembered = make(trust_seconds=0)
    assert await remembered.get("a", answer) == "yes"
    assert await remembered.get("a", fail) == "yes"
    assert await remembered.get("b", nothing) is None
    with pytest.raises(UnavailableError):
        await remembered.get("b", fail)
    old = make(trust_seconds=0, stale_seconds=0)
    await old.get("a", answer)
    with pytest.raises(UnavailableError):
        await old.get("a", fail)


async def test_what_is_remembered_is_bounded() -> None:
    remembered = make()
    for number in range(10):
        await remembered.get(str(number), answer)
    assert len(remembered) == 3
