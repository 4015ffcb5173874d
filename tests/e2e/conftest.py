"""The engines, the models, and the count of numerical ties that the run met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from e2e import models, shortcut_models
from e2e.compare import Tally
from e2e.engine import Engines
from e2e.loop import Model
from e2e.shortcut_models import Shortcut

# By configuration, so that few hosts and engines are started.
_ORDER = (
    "truth",
    "policies",
    "batch",
    "features",
    "prefix_cache",
    "budget",
    "preemption",
    "shortcuts_memory",
    "shortcuts",
    "transparency",
    "latent",
    "latent_memory",
    "converted",
    "cuda_path",
    "cpu_start",
)
_TALLY = Tally()


def _name(item: pytest.Item) -> str | None:
    """Of a test's module, where it is one of this folder's."""
    is_here = item.path.parent == Path(__file__).parent
    return item.path.stem.removeprefix("test_") if is_here else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = _name(item)
        return -1 if name is None else _ORDER.index(name)

    items.sort(key=rank)  # stable: other tests keep their order and come first
    for item in items:
        if _name(item) is not None:
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
    with closing(Engines(tmp_path_factory.mktemp("engines"))) as pool:
        yield pool


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


@pytest.fixture(scope="session")
def shortcut_llama(tmp_path_factory: pytest.TempPathFactory) -> Shortcut:
    """A tiny Llama with shortcuts."""
    return shortcut_models.llama(tmp_path_factory.mktemp("shortcuts"))


@pytest.fixture(scope="session")
def shortcut_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Shortcut:
    """A tiny Qwen3 with shortcuts."""
    return shortcut_models.qwen3(tmp_path_factory.mktemp("shortcuts"))
