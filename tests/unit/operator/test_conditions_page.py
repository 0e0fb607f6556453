"""The page about conditions knows every reason, and none that does not exist."""

import re
from pathlib import Path

from taskfleet_operator.names import Reason

PAGE = Path(__file__).resolve().parents[3] / "docs" / "conditions.md"


def test_every_reason_is_explained_and_no_other() -> None:
    text = PAGE.read_text()
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ")][1:]
    listed = {reason.strip() for row in rows for reason in row.split(",")}
    events = {str(Reason.SCALED_UP), str(Reason.SCALED_DOWN)}
    assert listed == {str(reason) for reason in Reason} - events
    assert all(re.search(rf"`{event}`", text) for event in events)
