"""A real Prometheus (Debian's package) that scrapes each second, with its data in a folder of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.processes import ManagedProcess, free_port, start_process

__all__ = ["Prometheus"]

RULES = Path(__file__).resolve().parents[2] / "charts" / "taskfleet" / "rules" / "taskfleet.rules.yaml"


class Prometheus:
    """One server. `targets` are addresses (`host:port`) by the job's name; each serves /metrics."""

    def __init__(self, folder: Path, targets: Mapping[str, str], *, rules: Path = RULES) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            pytest.skip("needs the Debian package prometheus (make services installs it)")
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder, self._binary = folder, binary
        self._process: ManagedProcess | None = None
        jobs = [
            # As the chart's ServiceMonitors: the namespace of a queue is its own.
            {"job_name": name, "honor_labels": True, "static_configs": [{"targets": [address]}]}
            for name, address in targets.items()
        ]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def start(self) -> "Prometheus":
        """Start it and wait until it answers."""
        command = [self._binary, f"--config.file={self._folder / 'prometheus.yml'}"]
        command += [f"--storage.tsdb.path={self._folder / 'prometheus'}", "--log.level=warn"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}"]
        self._process = start_process(
            command, log=self._folder / "prometheus.log", ready=self._is_ready, timeout_seconds=60
        )
        return self

    def stop(self) -> None:
        """Kill it; its data goes with the folder."""
        if self._process is not None:
            self._process.kill()

    def list_down(self) -> list[str]:
        """Targets that the last scrape did not reach, with the reason."""
        answer = httpx.get(f"{self.url}/api/v1/targets", timeout=10, trust_env=False).json()
        return [
            f"{target['scrapePool']}: {target['lastError']}"
            for target in answer["data"]["activeTargets"]
            if target["health"] != "up"
        ]

    def list_firing(self) -> list[str]:
        """Names of the alerts that fire."""
        answer = httpx.get(f"{self.url}/api/v1/alerts", timeout=10, trust_env=False).json()
        return [alert["labels"]["alertname"] for alert in answer["data"]["alerts"] if alert["state"] == "firing"]

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
