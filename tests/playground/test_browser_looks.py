"""How the playground looks: its colours by light and dark, and its widths."""

from __future__ import annotations

from typing import Any

import pytest

from playground.browser import open_page
from playground.fake import WORDS, Fake
from playground.reading import MODES, choose_modes, column, run, wait_until_done

PHONE = 360  # pixels
# The colour of a text, and of the nearest background behind it that is not transparent.
COLOURS = """selector => {
  const text = document.querySelector(selector);
  const backOf = (e) => getComputedStyle(e).backgroundColor;
  let behind = text;
  while (backOf(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  return [getComputedStyle(text).color, backOf(behind)];
}"""
# What reaches past the window's right edge, or is scrolled sideways to be seen.
TOO_WIDE = """() => [...document.querySelectorAll("body, body *")].filter((e) => {
  const isScrolled = e.clientWidth > 0 && !e.matches("input, textarea, select");
  const { right } = e.getBoundingClientRect();
  return right > innerWidth + 0.5 || (isScrolled && e.scrollWidth > e.clientWidth);
}).map((e) => e.outerHTML.slice(0, 80))"""
# The axis ends at the edge, the line 8 pixels before it.
FITS = """() => [...document.querySelectorAll(".timeline")].every((svg) => {
  const ends = { axis: svg.clientWidth, line: svg.clientWidth - 8 };
  return Object.entries(ends).every(([name, end]) => {
    const { x, width } = svg.querySelector(`.${name}`).getBBox();
    return Math.abs(x + width - end) < 0.2;
  });
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colour_scheme(browser: Any, fake: Fake, scheme: Any) -> None:
    """The page follows it, and every text can be read on what is behind it."""
    with open_page(browser, fake.base + "/", color_scheme=scheme) as page:
        run(page, "routed")
        _, back = _colours(page, "body")
        assert (_luminance(back) > 0.5) == (scheme == "light")
        tokens = [f"article .token.{route}" for route in ("soft", "discrete", "forced")]
        for selector in (*tokens, ".status", "#run", ".answer"):
            assert _contrast(page, selector) >= 4.5, selector
        fake.engine.has_vectors = True
        choose_modes(page, "latent", "routed")
        page.fill("[name=threshold]", "5")  # routed refuses it, latent does not read it
        page.click("#run")
        wait_until_done(page, "latent")
        page.locator("article .error:visible").wait_for()
        for selector in ("article .token.latent", "article[data-mode=routed] .error"):
            assert _contrast(page, selector) >= 4.5, selector


def _colours(page: Any, selector: str) -> list[list[int]]:
    found = page.evaluate(COLOURS, selector)
    return [[int(part) for part in c.removeprefix("rgb(").rstrip(")").split(",")] for c in found]


def _luminance(rgb: list[int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    shares = [c / 255 for c in rgb]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(page: Any, selector: str) -> float:
    low, high = sorted(map(_luminance, _colours(page, selector)))
    return (high + 0.05) / (low + 0.05)


def test_phone(browser: Any, fake: Fake) -> None:
    """All of it within 360 pixels, before and after a run."""
    size = {"width": PHONE, "height": 640}
    with open_page(browser, fake.base + "/", viewport=size, has_touch=True) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE
        run(page, *MODES)
        page.click("#share")
        column(page, "routed").locator("[role=option]").nth(6).tap()
        assert WORDS[6] in column(page, "routed").locator(".details").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE
        boxes = [page.locator("article").nth(i).bounding_box() for i in range(3)]
        assert len({box["x"] for box in boxes}) == 1


def test_resize(page: Any) -> None:
    """After a run, each timeline is drawn anew for the width that it has."""
    run(page, *MODES)
    column(page, "routed").locator("[role=option]").nth(6).hover()  # its name is long
    page.locator("article[data-mode=routed] .cursor[d^=M]").wait_for(state="attached")
    wide = page.viewport_size
    before = _drawn(page)
    page.set_viewport_size({**wide, "width": PHONE})
    narrow = _drawn(page)
    assert len(narrow) == len(MODES)
    assert set(narrow).isdisjoint(before)
    assert page.evaluate(TOO_WIDE) == []
    page.set_viewport_size(wide)
    assert _drawn(page) == before
    assert page.evaluate(TOO_WIDE) == []


def _drawn(page: Any) -> list[str]:
    """The line of each timeline, once all of them end at their right edge."""
    page.wait_for_function(FITS, timeout=20_000)
    return [line.get_attribute("d") for line in page.locator(".timeline .line").all()]
