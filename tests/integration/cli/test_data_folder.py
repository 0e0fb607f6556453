"""A data folder belongs to one `taskfleet up`."""

import subprocess
import sys
from pathlib import Path


def test_second_run_on_the_same_data_folder_is_refused(tmp_path: Path) -> None:
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print('held', flush=True)"
    holder += "; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / "lock")], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            command = [sys.executable, "-m", "taskfleet", "up", "--data", str(tmp_path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
            assert done.returncode == 6
            assert "is used by another taskfleet up" in done.stderr
        finally:
            process.kill()
