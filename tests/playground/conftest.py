"""A browser for each module of this folder, a server and a page for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from playground.browser import open_page, running_browser
from playground.fake import Fake, running_fake


# Playwright keeps an event loop running in this thread until its browser is closed, and in that
# time no other test could start one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with running_browser() as found:
        yield found


@pytest.fixture
def fake(browser: Any) -> Iterator[Fake]:
    """A server without keys."""
    with running_fake() as server:
        yield server


@pytest.fixture
def page(browser: Any, fake: Fake) -> Iterator[Any]:
    """The playground of that server, with its models listed."""
    with open_page(browser, fake.base + "/") as opened:
        opened.wait_for_selector("select[name=model] option", state="attached")
        yield opened
