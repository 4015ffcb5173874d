"""The servers that the tests of this folder talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.serving import (
    LATENT,
    LIMITED,
    METERED,
    PLAIN,
    REASONER,
    SHORTCUT,
    THINKING,
    Server,
    Servers,
)

pytest.register_assert_rewrite("server.talk")

# By server, so that each is started once.
_OURS = (
    "test_bad_input",
    "test_client",
    "test_options",
    "test_effort_live",
    "test_quality",
    "test_sottovoce_client",
    "test_playground_live",
    "test_metrics_live",
    "test_prometheus_live",
    "test_limits",
    "test_shutdown",
    "test_shortcuts_live",
    "test_latent_live",
    "test_tiny_reasoner",
)
_ORDER = (*_OURS, "test_vllm_serve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        is_ranked = item.path.parent == here and item.path.stem in _ORDER
        return _ORDER.index(item.path.stem) if is_ranked else -1

    items.sort(key=rank)  # stable: other tests keep their order and come first
    for item in items:
        if rank(item) >= 0:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One server at a time."""
    pool = Servers(tmp_path_factory.mktemp("servers"))
    yield pool
    pool.close()


@pytest.fixture
def server(servers: Servers) -> Server:
    """A server of all three modes."""
    return servers.get(THINKING)


@pytest.fixture
def metered(servers: Servers) -> Server:
    """Two API server processes that send half of the undecided requests to the control arm."""
    return servers.get(METERED)


@pytest.fixture
def limited(servers: Servers) -> Server:
    """A server of a model without markers, with keys and low limits."""
    return servers.get(LIMITED)


@pytest.fixture
def reasoner(servers: Servers) -> Server:
    """The tiny reasoner by its short name."""
    return servers.get(REASONER)


@pytest.fixture
def short(servers: Servers) -> Server:
    """A server of a model with shortcuts."""
    return servers.get(SHORTCUT)


@pytest.fixture
def trained(servers: Servers) -> Server:
    """A server of a latent-trained model, which names no markers."""
    return servers.get(LATENT)


@pytest.fixture
def plain(servers: Servers) -> Server:
    """vLLM's own command, with the plugin and without our server."""
    return servers.get(PLAIN)
