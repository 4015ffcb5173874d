"""What the playground shows of one step, under the pointer or the keyboard's focus."""

from __future__ import annotations

from typing import Any

from playground.fake import NUM_STEPS, P_MAX, WORDS, routes_of
from playground.reading import answer_with, column, run


def _read_details(run: Any) -> tuple[str, list[str]]:
    """What is shown of a step: its line, and a line for each alternative."""
    details = run.locator(".details")
    return details.locator("p").inner_text(), details.locator("li").all_text_contents()


def _details_of(number: int) -> tuple[str, list[str]]:
    """The same, of a step of the routed recording."""
    index = number - 1
    first, second = (_quoted(WORDS[i % NUM_STEPS], i % NUM_STEPS) for i in (index, number))
    route, p_max = routes_of("routed")[index], P_MAX[index]
    sign = {"soft": "●", "discrete": "■", "forced": "▲"}[route]
    head = f"{number}. {first} {sign} {route}: p_max {p_max:.3f}, entropy {1 - p_max:.3f} nats"
    return head, [f" 0.800 {first}", f" 0.200 {second}"]


def _quoted(word: str, token: int) -> str:
    text = word.replace("\n", "⏎") or f"[{token}]"
    return f"“{text}”"


def test_details_on_hover(page: Any) -> None:
    run(page, "routed")
    routed = column(page, "routed")
    routed.locator("[role=option]").nth(1).hover()
    assert _read_details(routed) == (
        "2. “ +” ■ discrete: p_max 0.420, entropy 0.580 nats",
        [" 0.800 “ +”", " 0.200 “ 25”"],
    )


def test_details_by_keyboard(page: Any) -> None:
    """One tab stop for all steps, and the arrow keys among them, which stop at the ends."""
    run(page, "latent", "routed")
    routed = column(page, "routed")
    column(page, "latent").locator("[role=option]").first.focus()
    page.keyboard.press("Tab")
    assert _focused(page) == 1
    assert _read_details(routed) == _details_of(1)
    presses = [
        ("ArrowRight", 2), ("ArrowDown", 3), ("ArrowDown", 4), ("ArrowUp", 3), ("ArrowLeft", 2),
        ("End", 9), ("ArrowDown", 9), ("ArrowLeft", 8), ("Home", 1), ("ArrowUp", 1),
    ]  # fmt: skip
    for key, number in presses:
        page.keyboard.press(key)
        assert _focused(page) == number, key
        assert _read_details(routed) == _details_of(number), key
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    described = page.evaluate("document.activeElement.getAttribute('aria-describedby')")
    assert described == routed.locator(".details").get_attribute("id")
    assert routed.locator("[role=option][aria-selected=true]").count() == 1


def test_pages_by_keyboard(page: Any) -> None:
    """Ten steps at a time, and no further than the ends."""
    answer_with(page, [_thinking(25)])
    run(page, "explicit")
    explicit = column(page, "explicit")
    explicit.locator("[role=option]").first.focus()
    presses = [
        ("PageDown", 11), ("PageDown", 21), ("PageDown", 25), ("PageUp", 15), ("PageUp", 5),
        ("PageUp", 1),
    ]  # fmt: skip
    for key, number in presses:
        page.keyboard.press(key)
        assert _focused(page) == number
        head, alternatives = _read_details(explicit)
        assert head == f"{number}. “ a” ■ discrete: p_max {number / 100:.3f}, entropy 0.500 nats"
        assert alternatives == [f" 0.{number:02}0 “ b”"]


def _focused(page: Any) -> int:
    """The number of the step that has the focus."""
    return int(page.evaluate("document.activeElement.dataset.index")) + 1


def _thinking(num_steps: int) -> dict[str, Any]:
    """A chunk of so many steps, each with numbers of its own."""
    shares = [number / 100 for number in range(1, num_steps + 1)]
    step = {"token_id": 1, "token": " a", "route": "discrete", "entropy": 0.5}
    other = {"token_id": 2, "token": " b"}
    trace = [{**step, "p_max": p, "alternatives": [{**other, "weight": p}]} for p in shares]
    choice = {"index": 0, "delta": {}, "routing": {"trace": trace}, "finish_reason": "stop"}
    return {"choices": [choice]}
