"""What the playground says when something goes wrong: the server's own words."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from playground.browser import open_page
from playground.fake import Fake, running_fake
from playground.reading import choose_modes, column, run


def failure(page: Any, mode: str) -> str:
    """What a run that failed says."""
    column(page, mode).locator(".status", has_text="failed").wait_for()
    error = column(page, mode).locator(".error")
    assert error.get_attribute("role") == "alert"
    return str(error.inner_text())


def test_a_refused_value(page: Any, fake: Fake) -> None:
    """The other mode, which does not read it, runs."""
    choose_modes(page, "latent", "routed")
    page.fill("[name=threshold]", "5")
    page.click("#run")
    text = failure(page, "routed")
    assert text.startswith("400 invalid_value: ")
    assert "routing.threshold" in text
    assert "(0, 1]" in text
    column(page, "latent").get_by_text("done: stop").wait_for()
    page.fill("[name=threshold]", "0.5")
    run(page, "routed")
    assert column(page, "routed").locator(".error").is_hidden()


def test_a_key_is_asked_for_and_stays_in_the_tab(browser: Any) -> None:
    with running_fake(keys=["alpha"]) as fake, open_page(browser, fake.base + "/") as page:
        page.get_by_text("401 invalid_api_key: ").wait_for()
        assert page.locator("#notice").get_attribute("role") == "alert"
        assert page.locator("#key").get_attribute("aria-invalid") == "true"
        page.fill("#key", "alpha")
        page.keyboard.press("Tab")
        run(page, "routed")
        assert page.locator("#notice").is_hidden()
        assert page.evaluate("[localStorage.length, document.cookie, location.href]") == [
            0, "", fake.base + "/",
        ]  # fmt: skip
        page.reload()
        run(page, "explicit")
        assert len(fake.engine.requests) == 2
        page.fill("#key", "beta")
        choose_modes(page, "explicit")
        page.click("#run")
        assert failure(page, "explicit").startswith("401 invalid_api_key: ")
        with open_page(browser, fake.base + "/") as other:
            other.get_by_text("401 invalid_api_key: ").wait_for()


def test_a_full_queue(browser: Any) -> None:
    with running_fake(max_queue=1) as fake, open_page(browser, fake.base + "/") as page:
        fake.engine.holds = True
        choose_modes(page, "explicit", "routed")
        page.click("#run")
        page.locator(".status", has_text="failed").wait_for()
        text = page.locator("article .error:visible").inner_text()
        assert text.startswith("429 queue_full: 1 requests are in flight")
        assert text.endswith("(retry after 1 s)")
        page.click("#stop")
        page.locator(".status", has_text="stopped").wait_for()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"breaks": True}, "the stream broke off before its end"),
        ({"ends_early": True}, "the stream broke off before its end"),
        ({"error": "the engine <i>died</i>"}, "internal_error: the engine <i>died</i>"),
    ],
)
def test_a_broken_stream(page: Any, fake: Fake, how: dict[str, Any], says: str) -> None:
    """What came before stays."""
    for name, value in how.items():
        setattr(fake.engine, name, value)
    choose_modes(page, "routed")
    page.click("#run")
    assert failure(page, "routed").startswith(says)
    assert column(page, "routed").locator("[role=option]").count() == 3
    assert not page.is_disabled("#run")


def test_no_server(browser: Any) -> None:
    with ExitStack() as stack:
        with running_fake() as fake:
            page = stack.enter_context(open_page(browser, fake.base + "/"))
            choose_modes(page, "explicit")
        page.click("#run")
        assert failure(page, "explicit").startswith("the server cannot be reached")


def test_no_mode(page: Any, fake: Fake) -> None:
    choose_modes(page)
    page.click("#run")
    page.get_by_text("Choose a mode.").wait_for()
    assert fake.engine.requests == []
