"""The playground in a real browser, in front of a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from playground.browser import open_page, running_browser
from playground.reading import MODES, choose_modes, column, run, totals
from server.serving import Server, wait_for
from server.talk import BUDGET, MAX_TOKENS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; no event loop can start in this thread until it is closed."""
    with running_browser() as found:
        yield found


def limit(page: Any, max_tokens: int, budget: int) -> None:
    """The model is random: only limits end its thinking and its answer."""
    page.fill("[name=max_tokens]", str(max_tokens))
    page.fill("[name=thinking_token_budget]", str(budget))


def test_three_modes(browser: Any, server: Server) -> None:
    with open_page(browser, server.base + "/") as page:
        limit(page, MAX_TOKENS, BUDGET)
        run(page, *MODES)
        for mode in MODES:
            found = column(page, mode)
            assert found.locator(".effective").inner_text().startswith(f"ran as {mode}")
            num_steps = int(totals(found)["reasoning steps"])
            assert num_steps == BUDGET
            assert found.locator("[role=option]").count() == num_steps
            assert int(totals(found)["tokens"]) <= MAX_TOKENS
            assert f" of {num_steps} steps" in found.locator(".timeline").get_attribute(
                "aria-label"
            )
            found.locator("[role=option]").first.hover()
            assert found.locator(".details p").inner_text().startswith("1. ")
        assert totals(column(page, "explicit"))["soft share"] == "0 %"


def test_stop_frees_the_engine(browser: Any, server: Server) -> None:
    """Pressed while the engine is frozen, so that it comes before the end on any machine."""
    generated = server.metric("vllm:generation_tokens_total")
    with open_page(browser, server.base + "/") as page:
        limit(page, 480, 470)
        choose_modes(page, "latent")
        with server.frozen_engine():
            page.click("#run")
            assert wait_for(lambda: not page.is_disabled("#stop"), 30)
            page.click("#stop")
            column(page, "latent").locator(".status", has_text="stopped").wait_for()
        assert wait_for(server.is_idle, 30)
    assert server.metric("vllm:generation_tokens_total") - generated < 100


def test_a_refusal_in_the_servers_words(browser: Any, server: Server) -> None:
    with open_page(browser, server.base + "/") as page:
        choose_modes(page, "explicit")
        page.fill("[name=max_tokens]", "-1")
        page.click("#run")
        error = column(page, "explicit").locator(".error")
        error.wait_for()
        assert error.inner_text().startswith("400 invalid_request: ")


def test_keys_and_a_model_of_one_mode(browser: Any, limited: Server) -> None:
    assert httpx.get(limited.base + "/v1/models", timeout=30.0).status_code == 401
    with open_page(browser, limited.base + "/") as page:
        page.get_by_text("401 invalid_api_key: ").wait_for()
        page.fill("#key", limited.config.key)
        page.keyboard.press("Tab")
        page.wait_for_selector("select[name=model] option", state="attached")
        enabled = page.locator("[name=mode]:enabled")
        assert [box.get_attribute("value") for box in enabled.all()] == ["explicit"]
