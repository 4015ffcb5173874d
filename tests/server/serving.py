"""Real servers in processes of their own, on a tiny random model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
from safetensors.torch import load_file

from e2e import latent_models, shortcut_models
from e2e.models import tiny_llama
from server.checkpoints import save
from sottovoce_server.convert import main as convert
from sottovoce_server.demo import free_port

MODEL = "tiny"
CONTEXT = 512
START_TIMEOUT_S = 540.0
_UNINHERITED = ("TRITON_INTERPRET", "VLLM_PLUGINS", "VLLM_USE_V2_MODEL_RUNNER", "VLLM_API_KEY")
# More gain nothing at these sizes, and stall while another server starts.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_COMMON = (
    "--served-model-name", MODEL, "--host", "127.0.0.1", "--enforce-eager", "--dtype", "float32",
    "--max-model-len", str(CONTEXT), "--max-num-seqs", "8", "--kv-cache-memory-bytes", "67108864",
)  # fmt: skip
# vllm-cpu has no distribution named `vllm`, whose version vLLM's command wants to print.
_VLLM = """
import importlib.metadata
version = importlib.metadata.version
def version_of(name):
    try:
        return version(name)
    except importlib.metadata.PackageNotFoundError:
        return version(f"{name}-cpu") + "+cpu"
importlib.metadata.version = version_of
from vllm.entrypoints.cli.main import main
main()
"""


@dataclass(frozen=True)
class Config:
    """One way to start a server."""

    flags: tuple[str, ...]
    key: str = ""
    is_plain_vllm: bool = False
    model: str = ""  # a short name; else the tiny random model
    trained: str = ""  # what the tiny random model has besides text: shortcuts, or atp

    def command(self, model: Path, port: int) -> list[str]:
        """The command line."""
        program = ["-c", _VLLM] if self.is_plain_vllm else ["-m", "sottovoce_server"]
        where = ["serve", self.model or str(model), "--port", str(port)]
        return [sys.executable, *program, *where, *_COMMON, *self.flags]


# A random model would fill the space that JSON allows.
_NO_SPACE = '{"backend": "xgrammar", "disable_any_whitespace": true}'
THINKING = Config(
    (
        "--reasoning-parser", "deepseek_r1", "--structured-outputs-config", _NO_SPACE,
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
        "--min-answer-tokens", "0",  # a random model thinks until it is stopped
    )
)  # fmt: skip
METERED = Config(
    (
        "--reasoning-parser", "deepseek_r1", "--api-server-count", "2",
        "--default-reasoning-mode", "latent", "--control-fraction", "0.5",
    )
)  # fmt: skip
LIMITED = Config(
    (
        "--max-queue", "3", "--max-body-bytes", "20000", "--api-key", "alpha", "beta",
        "--allowed-origins", '["https://a.example"]',
    ),
    key="alpha",
)  # fmt: skip
REASONER = Config((), model="tiny-reasoner")
SHORTCUT = Config(("--reasoning-parser", "deepseek_r1"), trained="shortcuts")
LATENT = Config((), trained="atp")
PLAIN = Config(("--reasoning-parser", "deepseek_r1"), is_plain_vllm=True, trained="shortcuts")


def _tiny(root: Path, trained: str) -> Path:
    if trained == "shortcuts":
        return shortcut_models.llama(root).path
    return _converted(root, trained) if trained else tiny_llama(root)


# Where a run of training has what lies in a model's directory.
_PLACES = {
    "thinker.model.": "model.safetensors",
    "thinker.head.": "latent/head.safetensors",
    "decoder.reader.model.": "latent/decoder.safetensors",
}


def _converted(root: Path, method: str) -> Path:
    """A latent-trained model as `sottovoce convert` makes it of a run."""
    base, target = latent_models.llama(root / "base", method).path, root / "converted"
    tensors = {
        prefix + name: tensor
        for prefix, file in _PLACES.items()
        for name, tensor in load_file(base / file).items()
    }
    convert([str(save(tensors, root / "run", "checkpoint.pt")), str(target), "--base", str(base)])
    return target


def thinking_llama(root: Path, trained: str = "") -> Path:
    """The tiny Llama with markers that decoding keeps, as real reasoning models have them."""
    model = _tiny(root, trained)
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] not in ("<think>", "</think>")
    path.write_text(json.dumps(tokenizer))
    return model


class Server:
    """A running server, and clients of it."""

    def __init__(self, config: Config, model: Path, log: Path) -> None:
        self.config = config
        self._log = log
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        env = {k: v for k, v in os.environ.items() if k not in _UNINHERITED}
        if not (config.model or config.is_plain_vllm):  # those two start as a user's do
            env |= _ONE_THREAD
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                config.command(model, port),
                env={**env, "VLLM_NO_USAGE_STATS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def headers(self) -> dict[str, str]:
        """What a client with a key sends."""
        return {"Authorization": f"Bearer {self.config.key}"} if self.config.key else {}

    def http(self, **options: Any) -> httpx.Client:
        """A plain client."""
        options = {"headers": self.headers, "timeout": 120.0, **options}
        return httpx.Client(base_url=self.base, **options)

    def openai(self) -> openai.OpenAI:
        """The official client."""
        key = self.config.key or "none"
        return openai.OpenAI(base_url=f"{self.base}/v1", api_key=key, max_retries=0, timeout=120.0)

    def wait_until_ready(self) -> None:
        """Return once the server answers, or fail with the end of its log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.base}/health", timeout=5.0).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not start:\n{self.log[-4000:]}")

    @property
    def log(self) -> str:
        """What the server printed."""
        return self._log.read_text(errors="replace")

    def metric(self, name: str) -> float:
        """A metric of /metrics, summed over its labels."""
        lines = httpx.get(f"{self.base}/metrics", timeout=30.0).text.splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(name + "{")]
        return sum(map(float, values))

    def num_unfinished(self) -> int:
        """Sequences that the engine runs or has waiting."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        return int(sum(self.metric(name) for name in names))

    def is_idle(self) -> bool:
        """Whether the engine has nothing to do."""
        return self.num_unfinished() == 0

    @contextmanager
    def frozen_engine(self) -> Iterator[None]:
        """What is sent meanwhile is accepted, and stays in flight however fast the machine is."""
        engine = psutil.Process(self.process.pid).children(recursive=True)
        for process in engine:
            process.suspend()
        try:
            yield
        finally:
            for process in engine:
                process.resume()

    def is_full(self) -> bool:
        """Whether --max-queue requests are in flight, told by a request that never joins them."""
        with self.http() as client:
            wrong = client.post("/v1/chat/completions", json={"reasoning_mode": "loud"})
        assert wrong.status_code in (400, 429), wrong.text
        return wrong.status_code == 429

    def terminate(self) -> None:
        """Ask the process to end, and wait for nothing."""
        if self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """End the process and what it started."""
        self.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Servers:
    """One server at a time, and the next one starting meanwhile.

    A start takes most of a minute, and one core.
    """

    def __init__(self, directory: Path, upcoming: list[Config]) -> None:
        self._directory = directory
        self._models: dict[str, Path] = {}
        self._upcoming = upcoming  # in the order in which tests will ask
        self._current: Server | None = None
        self._started: list[Server] = []
        self._failures: dict[Config, Exception] = {}
        self._next = self._start_next()

    def get(self, config: Config) -> Server:
        """The server of a configuration; the running one if it is the same."""
        if self._current is not None:
            if self._current.config == config and self._current.process.poll() is None:
                return self._current
            self._current.terminate()
        if config in self._failures:
            raise self._failures[config]
        if self._next is None or self._next.config != config:
            if self._next is not None:
                self._next.terminate()
            self._next = self._start(config)
        self._current, self._next = self._next, None
        try:
            self._current.wait_until_ready()
        except RuntimeError as error:
            self._failures[config] = error
            raise
        self._next = self._start_next()
        return self._current

    def _start_next(self) -> Server | None:
        return self._start(self._upcoming[0]) if self._upcoming else None

    def _start(self, config: Config) -> Server:
        if config in self._upcoming:
            self._upcoming.remove(config)
        model = self._models.get(config.trained)
        if model is None:
            root = self._directory / f"model-{len(self._models)}"
            model = self._models[config.trained] = thinking_llama(root, config.trained)
        log = self._directory / f"server-{len(self._started) + 1}.log"
        self._started.append(Server(config, model, log))
        return self._started[-1]

    def close(self) -> None:
        """Stop what still runs."""
        for server in self._started:
            server.stop()


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition became true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
