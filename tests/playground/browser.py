"""A headless Chromium, and what every page of these tests must keep to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

REASON = "no Chromium: install Debian's `chromium`, or run `playwright install chromium`"


@contextmanager
def running_browser() -> Iterator[Any]:
    """Debian's Chromium, else Playwright's own; skips the test where neither is installed."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with api.sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        try:
            # Containers run as root, where Chromium's sandbox does not start.
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"{REASON} ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page in a fresh context, which may talk to its own server only, and without an error."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.extend(_faults_of(message)))
    page.on("request", lambda request: faults.extend(_foreign(request.url, address)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.goto(address)
    try:
        page.wait_for_function("document.readyState === 'complete'")
        yield page
    finally:
        context.close()
    assert faults == []


def _faults_of(message: Any) -> list[str]:
    # Chromium logs every answer that is an error; the tests look at what the page says of it.
    is_fault = message.type == "error" and "Failed to load resource" not in message.text
    return [message.text] if is_fault else []


def _foreign(url: str, address: str) -> list[str]:
    origin = "/".join(address.split("/")[:3])
    return [] if url.startswith(origin + "/") else [url]
