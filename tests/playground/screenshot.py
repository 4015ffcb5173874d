"""Takes the README's picture of the playground, of a running server of the tiny reasoner.

PYTHONPATH=tests .venv/bin/python -m playground.screenshot http://localhost:8000
"""

from __future__ import annotations

import sys
from pathlib import Path

from playground.browser import open_page, running_browser
from playground.reading import MODES, column, run

PATH = Path(__file__).parents[2] / "server" / "playground.png"
SIZE = {"width": 1280, "height": 764}  # CSS pixels
_FIELDS = {
    "prompt": "State the final answer to the following arithmetic problem: 57 - 38 + 64 =",
    "temperature": "1",
    "threshold": "0.95",  # this model is seldom less sure
}


def main(address: str) -> None:
    """Overwrite the picture."""
    with (
        running_browser() as browser,
        open_page(browser, address + "/", viewport=SIZE, color_scheme="light") as page,
    ):
        for name, value in _FIELDS.items():
            page.fill(f"[name={name}]", value)
        page.check("[name=in_turn]")
        run(page, *MODES)
        column(page, "routed").locator("[role=option].discrete").first.hover()
        # How long this machine took, with whatever else it did, would say nothing.
        seconds = page.locator(".totals div", has_text="seconds")
        seconds.evaluate_all("pairs => pairs.forEach(pair => pair.remove())")
        page.locator("#legend").evaluate("line => line.scrollIntoView()")
        page.screenshot(path=PATH)


if __name__ == "__main__":
    main(*sys.argv[1:])
