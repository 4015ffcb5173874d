"""The engines, the models, and the count of numerical ties that the run met."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from e2e import models
from e2e.compare import Tally
from e2e.engine import Engines
from e2e.loop import Model

# By configuration, so that few hosts and engines are started.
_ORDER = (
    "truth",
    "policies",
    "batch",
    "features",
    "prefix_cache",
    "budget",
    "preemption",
    "transparency",
    "shortcuts",
    "shortcuts_memory",
    "latent",
    "latent_memory",
    "converted",
    "cuda_path",
    "cpu_start",
)
_TALLY = Tally()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        return (
            _ORDER.index(item.path.stem.removeprefix("test_")) if item.path.parent == here else -1
        )

    items.sort(key=rank)  # stable: other tests keep their order and come first
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.engine)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TALLY.num_compared:
        terminalreporter.write_line(
            f"{len(_TALLY.ties)} of {_TALLY.num_compared} compared requests ended in a numerical tie"
        )
        for tie in _TALLY.ties:
            terminalreporter.write_line(f"  {tie}")


@pytest.fixture(scope="session")
def tally() -> Tally:
    """Compares, and counts ties over the whole run."""
    return _TALLY


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """One engine at a time."""
    pool = Engines(tmp_path_factory.mktemp("engines"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models lie."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # more of them stall on a machine that is shared


@pytest.fixture(scope="session")
def llama(model_dir: Path) -> Model:
    """The tiny Llama in the loop; `llama.path` is what an engine loads."""
    return Model(models.tiny_llama(model_dir))


@pytest.fixture(scope="session")
def qwen3(model_dir: Path) -> Model:
    """The tiny Qwen3 in the loop."""
    return Model(models.tiny_qwen3(model_dir))
