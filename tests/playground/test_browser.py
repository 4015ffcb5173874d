"""The playground in a real browser: what it sends, shows, and lets a keyboard do."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from playground.browser import open_page
from playground.fake import ANSWER, NUM_STEPS, P_MAX, WORDS, Fake, routes_of
from playground.reading import answer_with, choose_modes, column, run, totals, wait_until_done
from sottovoce_router import parse


def test_type_and_run(page: Any, fake: Fake) -> None:
    choose_modes(page, "routed")
    page.fill("[name=prompt]", "")
    page.focus("[name=prompt]")
    page.keyboard.type("Say <b>hi</b>")
    page.fill("[name=threshold]", "0.55")
    page.fill("[name=top_n]", "4")
    page.fill("[name=thinking_token_budget]", "9")
    page.keyboard.press("Tab")
    page.focus("[name=prompt]")
    page.keyboard.press("Control+Enter")
    wait_until_done(page, "routed")
    (request,) = fake.engine.requests
    assert request["messages"] == [{"role": "user", "content": "Say <b>hi</b>"}]
    assert (request["seed"], request["max_tokens"], request["model"]) == (7, 512, "tiny")
    assert request["thinking_token_budget"] == 9
    params = parse(request["vllm_xargs"])
    assert (params.mode, params.threshold, params.top_n, params.trace) == ("routed", 0.55, 4, True)
    routed = column(page, "routed")
    assert (
        routed.locator(".effective").inner_text() == "ran as routed · thinkrouter · threshold 0.55"
    )
    assert routed.locator(".status").inner_text() == "done: stop"
    assert routed.locator(".answer").inner_text() == "".join(ANSWER)
    assert totals(routed) == {
        "reasoning steps": "9", "soft share": "56 %", "switches": "5", "tokens": "12",
    }  # fmt: skip


def test_every_step_is_shown_as_text_with_its_route(page: Any) -> None:
    run(page, "routed")
    tokens = column(page, "routed").locator("[role=option]")
    texts = tokens.all_text_contents()
    assert texts[6] == WORDS[6], "markup in a token stays text"
    assert texts[3] == "⏎\n"
    assert texts[7] == "[7]"
    routes = routes_of("routed")
    lines: dict[str, str] = {}
    for i, route in enumerate(routes):
        token = tokens.nth(i)
        assert f", {route}, p_max {P_MAX[i]:.2f}" in token.get_attribute("aria-label")
        lines[route] = token.evaluate("e => getComputedStyle(e).borderBottomStyle")
    assert len(set(lines.values())) == 3, "the routes differ in more than colour"
    assert page.locator("img").count() == 0


def test_three_modes_side_by_side(page: Any, fake: Fake) -> None:
    page.set_viewport_size({"width": 1300, "height": 900})
    run(page, "explicit", "latent", "routed")
    shown = page.locator("article .effective").all_inner_texts()
    assert shown == [
        "ran as explicit", "ran as latent · soft", "ran as routed · thinkrouter · threshold 0.7",
    ]  # fmt: skip
    boxes = [page.locator("article").nth(i).bounding_box() for i in range(3)]
    assert len({box["y"] for box in boxes}) == 1
    assert len({box["x"] for box in boxes}) == 3
    assert totals(column(page, "explicit"))["soft share"] == "0 %"
    assert totals(column(page, "latent"))["soft share"] == "89 %"
    assert len(fake.engine.requests) == 3


def test_one_after_the_other(page: Any, fake: Fake) -> None:
    fake.engine.holds = True
    page.check("[name=in_turn]")
    choose_modes(page, "latent", "routed")
    page.click("#run")
    column(page, "latent").locator("[role=option]").nth(2).wait_for()
    assert column(page, "routed").locator(".status").inner_text() == "waiting"
    assert len(fake.engine.requests) == 1
    page.click("#stop")
    column(page, "routed").get_by_text("stopped").wait_for()
    assert len(fake.engine.requests) == 1


def test_thinking_without_a_record(page: Any) -> None:
    """Its length is the usage's."""
    choice = {"index": 0, "delta": {"reasoning": "Hm."}, "finish_reason": "stop"}
    usage = {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 5}}
    answer_with(page, [{"choices": [choice]}, {"choices": [], "usage": usage}])
    run(page, "latent")
    latent = column(page, "latent")
    assert latent.locator(".thinking").inner_text() == "Hm."
    assert totals(latent)["reasoning steps"] == "5"


def test_latent_steps_in_words(page: Any, fake: Fake) -> None:
    """Where they were read."""
    fake.engine.has_vectors = True
    run(page, "latent")
    latent = column(page, "latent")
    steps = latent.locator("[role=option]")
    assert steps.all_text_contents() == ["17 + 25", "(vector)", "</think>"]
    steps.first.hover()
    details = latent.locator(".details").inner_text()
    assert "1. “17 + 25” ◆ latent: p_max 0.900, entropy 0.100 nats" in details
    assert latent.locator(".timeline .latent").get_attribute("d").count("M") == 2


def test_timeline(page: Any) -> None:
    run(page, "latent", "routed")
    routed = column(page, "routed")
    timeline = routed.locator(".timeline")
    label = timeline.get_attribute("aria-label")
    assert label == "p_max of 9 steps, lowest 0.31 at step 5, threshold 0.7"
    line = timeline.locator(".line").get_attribute("d")
    heights = [float(point.split()[1]) for point in line.removeprefix("M").split("L")]
    assert len(set(heights)) == NUM_STEPS
    below = [y > _threshold_height(timeline) for y in heights]
    assert below == [p < 0.7 for p in P_MAX]
    for route in ("soft", "discrete", "forced", "latent"):
        marks = timeline.locator(f".{route}").get_attribute("d").count("M")
        assert marks == routes_of("routed").count(route)
    assert column(page, "latent").locator(".timeline .threshold").get_attribute("d") == ""
    box = timeline.bounding_box()
    timeline.hover(position={"x": box["width"] - 8, "y": 40})
    assert routed.locator(".details p").inner_text().startswith(f"{NUM_STEPS}. ")


def _threshold_height(timeline: Any) -> float:
    line: str = timeline.locator(".threshold").get_attribute("d")
    return float(line.split("H")[0].split()[1]) + 0.05  # the step at the threshold is not below it


def test_share_link(browser: Any, page: Any, fake: Fake) -> None:
    """It fills the form of another tab, runs nothing there, and holds no key."""
    choose_modes(page, "latent", "routed")
    page.fill("[name=prompt]", "Why & how?\nTell")
    page.fill("[name=seed]", "11")
    page.select_option("[name=model]", "other")
    page.select_option("[name=routed_policy]", "random")
    page.fill("#key", "very-secret")
    page.click("#share")
    page.wait_for_function("document.getElementById('share-status').textContent")
    link = page.input_value("#link")
    assert link == page.url
    assert "very-secret" not in link
    assert urlsplit(link).query == ""
    state = parse_qs(urlsplit(link).fragment)
    assert (state["mode"], state["seed"], state["model"]) == (
        ["latent", "routed"],
        ["11"],
        ["other"],
    )
    with open_page(browser, link) as other:
        other.wait_for_selector("select[name=model] option", state="attached")
        names = ("prompt", "seed", "model", "routed_policy")
        values = [other.input_value(f"[name={name}]") for name in names]
        assert values == ["Why & how?\nTell", "11", "other", "random"]
        assert other.input_value("#key") == ""
        assert other.locator("[name=mode]:checked").count() == 2
        assert other.locator("article").count() == 0
    assert fake.engine.requests == []


def test_a_share_link_is_copied(browser: Any, fake: Fake) -> None:
    allowed = ["clipboard-read", "clipboard-write"]
    with open_page(browser, fake.base + "/", permissions=allowed) as page:
        page.fill("[name=prompt]", "Copy & paste")
        page.click("#share")
        page.locator("#share-status", has_text="Copied.").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.input_value("#link") == page.url
        assert parse_qs(urlsplit(copied).fragment)["prompt"] == ["Copy & paste"]


def test_a_share_link_without_a_clipboard(page: Any) -> None:
    """As on a page without TLS."""
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.click("#share")
    page.locator("#share-status", has_text="Copy the link; it holds no key.").wait_for()
    selected = page.locator("#link").evaluate("e => [e.selectionStart, e.selectionEnd]")
    assert selected == [0, len(page.url)]


def test_stop(page: Any, fake: Fake) -> None:
    fake.engine.holds = True
    choose_modes(page, "explicit", "routed")
    assert page.is_disabled("#stop")
    page.click("#run")
    for mode in ("explicit", "routed"):
        column(page, mode).locator("[role=option]").nth(2).wait_for()
    assert page.is_disabled("#run")
    page.press("[name=prompt]", "Control+Enter")
    page.click("#stop")
    for mode in ("explicit", "routed"):
        column(page, mode).get_by_text("stopped").wait_for()
        assert column(page, mode).locator("[role=option]").count() == 3
        assert column(page, mode).locator(".error").is_hidden()
    page.wait_for_function("!document.getElementById('run').disabled")
    assert len(fake.engine.requests) == 2, "what runs is not started again"
    fake.engine.holds = False
    run(page, "explicit")
    assert fake.engine.num_hung_up == 2
