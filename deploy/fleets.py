"""The two fleets of deploy/trial.py: servers behind vllm-router, and Ray Serve's replicas."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from sottovoce_server.demo import free_port

START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 140.0
SERVE = [
    sys.executable, "-m", "sottovoce_server", "serve", "tiny-reasoner", "--enforce-eager",
    "--max-num-seqs", "8", "--kv-cache-memory-bytes", "67108864", "--dtype", "float32",
]  # fmt: skip


class Fleet(Protocol):
    """Two replicas at one address."""

    base: str

    def __init__(self, folder: Path) -> None:
        """Logs go to the folder."""

    def start(self) -> None:
        """Return once both replicas serve."""

    def kill_one(self) -> None:
        """SIGKILL to one replica and everything that it started."""

    def restore(self) -> None:
        """Return once there are two again."""

    def drain_one(self) -> None:
        """Scale down to one; return once the other has ended by itself."""

    def stop(self) -> None:
        """End everything."""


def _is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _wait(what: str, condition: Any, timeout_s: float = START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.5)


def _spawn(command: list[str], log: Path, **env: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=stream, start_new_session=True, env={**os.environ, **env}
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class RouterFleet:
    """Plain servers, and vllm-router, which asks each for /ready every second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = [free_port(), free_port()]
        self._servers: list[subprocess.Popen[bytes]] = []
        self._router: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.base = f"http://127.0.0.1:{self._port}"

    def _serve(self, index: int) -> subprocess.Popen[bytes]:
        port = str(self._ports[index])
        command = [*SERVE, "--host", "127.0.0.1", "--port", port]
        return _spawn(command, self._folder / f"server-{index}.log")

    def _wait_for_server(self, index: int) -> None:
        _wait("a server", lambda: _is_up(f"http://127.0.0.1:{self._ports[index]}/ready"))

    def start(self) -> None:
        """The servers, then the router."""
        self._servers = [self._serve(0), self._serve(1)]
        self._wait_for_server(0)
        self._wait_for_server(1)
        program = os.environ.get("VLLM_ROUTER", "vllm-router")
        workers = [f"http://127.0.0.1:{port}" for port in self._ports]
        command = [
            program, "--host", "127.0.0.1", "--port", str(self._port), "--policy", "round_robin",
            "--worker-urls", *workers, "--health-check-endpoint", "/ready",
            "--health-check-interval-secs", "1", "--health-failure-threshold", "1",
            "--health-success-threshold", "1", "--prometheus-port", str(free_port()),
        ]  # fmt: skip
        self._router = _spawn(command, self._folder / "router.log")
        _wait("the router", lambda: _is_up(f"{self.base}/v1/models"))

    def kill_one(self) -> None:
        """The first."""
        _kill_group(self._servers[0])

    def restore(self) -> None:
        """Start it again; the router finds it by its health."""
        self._servers[0] = self._serve(0)
        self._wait_for_server(0)
        time.sleep(3)

    def drain_one(self) -> None:
        """SIGTERM to the second."""
        self._servers[1].terminate()
        code = self._servers[1].wait(STOP_TIMEOUT_S)
        if code != 0:
            raise RuntimeError(f"the drained server ended with {code}")

    def stop(self) -> None:
        """Whatever still runs."""
        for process in (*self._servers, self._router):
            if process is not None:
                _kill_group(process)


_SCALE = "import ray, sys; from ray import serve; ray.init(address='auto', namespace='serve')\n"
_SCALE += "from deploy.ray_serve import app; serve.run(app)"


class RayFleet:
    """Ray on this machine, with deploy/ray_serve.py."""

    base = "http://127.0.0.1:8000"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._python = os.environ.get("RAY_PYTHON", sys.executable)
        self._ray = str(Path(self._python).with_name("ray"))
        # A second name by which this trial's servers are told from others.
        self._command = [*SERVE, "--served-model-name", "tiny-reasoner", folder.name]

    def _scale(self, num_replicas: int) -> None:
        root = str(Path(__file__).parents[1])
        env = {**os.environ, "PYTHONPATH": root, "SOTTOVOCE_REPLICAS": str(num_replicas)}
        env["SOTTOVOCE_COMMAND"] = shlex.join(self._command)
        with (self._folder / "serve.log").open("ab") as log:
            subprocess.run(
                [self._python, "-c", _SCALE], env=env, stdout=log, stderr=log, check=True
            )

    def servers(self) -> list[psutil.Process]:
        """The servers that the replicas started."""
        length = len(self._command)
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or [])[:length] == self._command
            and os.getpgid(process.pid) == process.pid
        ]

    def start(self) -> None:
        """A head node, then the application."""
        quiet = ["--include-dashboard=false", "--disable-usage-stats"]
        small = ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000"]
        root = str(Path(__file__).parents[1])
        env = dict(os.environ)  # the actors', and so the servers'
        env["PYTHONPATH"] = os.pathsep.join([root, env.get("PYTHONPATH", "")])
        with (self._folder / "ray.log").open("ab") as log:
            subprocess.run(
                [self._ray, "start", "--head", *quiet, *small], env=env, stdout=log, stderr=log,
                check=True,
            )  # fmt: skip
        self._scale(2)
        _wait("two replicas", lambda: len(self.servers()) == 2 and _is_up(f"{self.base}/ready"))

    def kill_one(self) -> None:
        """The server of a replica; its actor follows."""
        os.killpg(self.servers()[0].pid, signal.SIGKILL)

    def restore(self) -> None:
        """Ray Serve starts another by itself."""
        _wait("a new replica", lambda: len(self.servers()) == 2)
        self._scale(2)

    def drain_one(self) -> None:
        """Scale down."""
        self._scale(1)
        _wait("one replica", lambda: len(self.servers()) == 1, STOP_TIMEOUT_S)

    def stop(self) -> None:
        """Ray's processes, and the servers with them."""
        subprocess.run([self._ray, "stop", "--force"], check=False, capture_output=True)
        for server in self.servers():
            os.killpg(server.pid, signal.SIGKILL)
