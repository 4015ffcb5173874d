"""A real Prometheus that scrapes one server every second, with the rules that deploy/ ships."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.expressions import RULES
from sottovoce_server.demo import free_port

START_TIMEOUT_S = 60.0


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _data(self, path: str, **params: str) -> Any:
        response = self._client.get(f"/api/v1/{path}", params=params)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def query(self, expr: str) -> list[Any]:
        """The samples of an expression now."""
        samples: list[Any] = self._data("query", query=expr)["result"]
        return samples

    def unhealthy_rules(self) -> list[Any]:
        """Rules whose evaluation failed."""
        groups = self._data("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"]

    def is_ready(self) -> bool:
        """Whether it takes queries."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


def _write_config(path: Path, target: str) -> Path:
    scrape = {"job_name": "sottovoce", "static_configs": [{"targets": [target]}]}
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    # JSON is YAML.
    config = {"global": every, "rule_files": [str(RULES)], "scrape_configs": [scrape]}
    path.write_text(json.dumps(config))
    return path


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Scrape `target`, a host and port, for as long as the block runs."""
    program, port = shutil.which("prometheus"), free_port()
    assert program is not None
    command = [
        program, f"--config.file={_write_config(folder / 'prometheus.yml', target)}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0)
    prometheus = Prometheus(client)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not prometheus.is_ready():
            text = (folder / "prometheus.log").read_text()
            assert process.poll() is None, text[-2000:]
            assert time.monotonic() < deadline, text[-2000:]
            time.sleep(0.1)
        yield prometheus
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=20)
