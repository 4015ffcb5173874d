"""Words for what the browser tests do and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MODES = ("explicit", "latent", "routed")


def choose_modes(page: Any, *modes: str) -> None:
    """Tick these modes and no others."""
    page.wait_for_selector("select[name=model] option", state="attached")
    for mode in MODES:
        page.set_checked(f"[name=mode][value={mode}]", mode in modes)


def column(page: Any, mode: str) -> Any:
    """The run of a mode."""
    return page.locator(f"article[data-mode={mode}]")


def wait_until_done(page: Any, *modes: str) -> None:
    """Return once every one of these runs has ended well."""
    for mode in modes:
        column(page, mode).get_by_text("done: ").wait_for()


def run(page: Any, *modes: str) -> None:
    """Run these modes to their end."""
    choose_modes(page, *modes)
    page.click("#run")
    wait_until_done(page, *modes)


def totals(run: Any) -> dict[str, str]:
    """The totals of a run, less its seconds, which no test can know."""
    names = run.locator("dt").all_inner_texts()
    values = run.locator("dd").all_inner_texts()
    found = dict(zip(names, values, strict=True))
    assert float(found.pop("seconds")) >= 0
    return found


def answer_with(page: Any, chunks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stream these chunks in the server's place; the list returned gains every request."""
    requests: list[dict[str, Any]] = []

    def answer(route: Any) -> None:
        requests.append(route.request.post_data_json)
        events = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        body = "".join(f"data: {event}\n\n" for event in events)
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/v1/chat/completions", answer)
    return requests
