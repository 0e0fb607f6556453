"""Writes charts/taskfleet/dashboards/*.json from hack/dashboards. `--check` compares."""

import json
import sys
from pathlib import Path

from dashboards.health import HEALTH
from dashboards.overview import OVERVIEW
from dashboards.queue import QUEUE

FOLDER = Path(__file__).resolve().parents[1] / "charts" / "taskfleet" / "dashboards"
DASHBOARDS = {"overview": OVERVIEW, "queue": QUEUE, "health": HEALTH}


def main() -> int:
    """Write the files, or say whether they are up to date."""
    check = "--check" in sys.argv[1:]
    texts = {f"{name}.json": json.dumps(document, indent=1) + "\n" for name, document in DASHBOARDS.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    present = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    if present == texts:
        return 0
    if check:
        sys.stderr.write("charts/taskfleet/dashboards is not what hack/dashboards says: run `make generate`\n")
        return 1
    for name in present.keys() - texts.keys():
        (FOLDER / name).unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
