"""This process runs our Triton kernels in the interpreter; engines run in their own processes.

The tests in `tests/gpu` are run without it: `make test-gpu`.

Most tests keep one core busy. What takes minutes in other processes, a module can have done on a
second core from the session's start on, by a function `start_ahead`, which returns the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TRITON_INTERPRET", "1")


def _submit(pool: ThreadPoolExecutor, module: Any, folder: Path) -> Future[Any]:
    """A module that cannot start fails its own tests."""
    try:
        return pool.submit(module.start_ahead(folder))
    except Exception as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


@pytest.fixture(scope="session", autouse=True)
def _started_ahead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """The work of the modules of this session, one after the other."""
    modules = {getattr(item, "module", None): None for item in request.session.items}
    pool = ThreadPoolExecutor(1)
    yield {
        module.__name__: _submit(pool, module, tmp_path_factory.mktemp("ahead"))
        for module in modules
        if hasattr(module, "start_ahead")
    }
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def made_ahead(request: pytest.FixtureRequest, _started_ahead: dict[str, Future[Any]]) -> Any:
    """What the work of this module's `start_ahead` returned."""
    return _started_ahead[request.module.__name__].result()
