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

# The fixtures below in the order in which their servers are started, each once.
_SERVERS = {
    "server": THINKING,
    "metered": METERED,
    "limited": LIMITED,
    "short": SHORTCUT,
    "trained": LATENT,
    "reasoner": REASONER,
    "plain": PLAIN,
}
_LAST = "test_shutdown"  # of its server, which it ends


def _server_of(item: pytest.Item) -> str | None:
    if item.path.parent != Path(__file__).parent:
        return None
    return next((name for name in getattr(item, "fixturenames", ()) if name in _SERVERS), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = list(_SERVERS)

    def rank(item: pytest.Item) -> tuple[int, bool]:
        name = _server_of(item)
        return (names.index(name), item.path.stem == _LAST) if name else (-1, False)

    items.sort(key=rank)  # stable: other tests keep their order and come first
    for item in items:
        if _server_of(item):
            item.add_marker(pytest.mark.engine)


# Of the whole folder, so that the first server starts while the tests that need none run.
@pytest.fixture(scope="session", autouse=True)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """One server at a time, and the next one, which starts meanwhile."""
    wanted = {_SERVERS[name]: None for name in map(_server_of, request.session.items) if name}
    pool = Servers(tmp_path_factory.mktemp("servers"), list(wanted))
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
    """A server of a converted latent-trained model, which names no markers."""
    return servers.get(LATENT)


@pytest.fixture
def plain(servers: Servers) -> Server:
    """vLLM's own command, with the plugin and without our server."""
    return servers.get(PLAIN)
