"""What dashboards and rules ask, asked of a real Prometheus that scrapes real servers under load."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.expressions import dashboard_expressions, rule_expressions
from deploy.scraping import Prometheus, running_prometheus
from server.serving import Server, wait_for
from server.talk import CHAT, CHAT_ROUTE, body, read
from sottovoce_server.savings import CONTROL, MIN_REQUESTS, TREATMENT, Sums, draw_arm, estimate

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus: `apt-get install prometheus`"
)
TIMEOUT_S = 60.0
NUM_CLIENTS = 16
Request = tuple[str, dict[str, Any]]  # its id, and its body
# Without an arm: three modes that are named, and a refusal.
NAMED = [(mode, body(mode)) for mode in ("explicit", "latent", "routed", "loud")]
# The random model thinks for as long as it may: a length is a limit.
LENGTHS = {CONTROL: range(5, 10), TREATMENT: range(1, 4)}
UNITS = ("requests", "tokens", "squared_tokens")
# What the server calls sottovoce_saving_*.
RECORDED = {
    "ratio": "job:sottovoce_saving:ratio",
    "low_ratio": "job:sottovoce_saving_low:ratio",
    "high_ratio": "job:sottovoce_saving_high:ratio",
    "has_evidence": "job:sottovoce_saving:has_evidence",
}
UNKNOWN = {**dict.fromkeys(RECORDED, math.nan), "has_evidence": 0.0}


def undecided(prefix: str, num: int) -> list[Request]:
    """`num` requests of each arm, which leave the mode to the server, of the arm's lengths."""
    found: dict[str, list[Request]] = {CONTROL: [], TREATMENT: []}
    index = 0
    while min(map(len, found.values())) < num:
        request_id = f"{prefix}-{index}"
        arm, index = draw_arm(request_id, 0.5), index + 1
        length = LENGTHS[arm][len(found[arm]) % len(LENGTHS[arm])]
        found[arm].append((request_id, {**CHAT, "max_tokens": length}))
    return [request for pair in zip(*found.values(), strict=False) for request in pair]


def ask(server: Server, requests: Iterable[Request]) -> list[Any]:
    """Their answers, NUM_CLIENTS at a time."""
    with server.http() as client, ThreadPoolExecutor(NUM_CLIENTS) as pool:

        def post_one(request: Request) -> Any:
            headers = {"X-Request-Id": request[0]}
            return client.post(CHAT_ROUTE, json=request[1], headers=headers).json()

        return list(pool.map(post_one, requests))


def counted(sums: dict[str, Sums], answers: Iterable[Any]) -> dict[str, Sums]:
    """The window with these answers, as they tell their arms and lengths themselves."""
    found = dict(sums)
    for answer in answers:
        arm = answer["routing"]["arm"]
        details = answer["usage"]["completion_tokens_details"]
        found[arm] = found[arm].plus(details["reasoning_tokens"])
    return found


def exported(server: Server) -> dict[str, Sums]:
    """The window in the server's /metrics."""
    return {
        arm: Sums(*(read(server, f"saving_window_{unit}", arm=arm) for unit in UNITS))
        for arm in (CONTROL, TREATMENT)
    }


def values(prometheus: Prometheus, expr: str) -> list[float]:
    """Of each series of an expression, now."""
    return [float(sample["value"][1]) for sample in prometheus.query(expr)]


def recorded(prometheus: Prometheus) -> dict[str, float]:
    """The saving by the rules."""
    return {name: value for name, rule in RECORDED.items() for value in values(prometheus, rule)}


def assert_recorded(prometheus: Prometheus, saving: dict[str, float], num_requests: float) -> None:
    """In time: this saving, of a window of so many requests."""
    window = "sum(job_arm:sottovoce_saving_window:requests)"

    def found() -> dict[str, float]:
        return recorded(prometheus) | {"window": sum(values(prometheus, window))}

    expected = pytest.approx({**saving, "window": num_requests}, nan_ok=True)
    assert wait_for(lambda: found() == expected, TIMEOUT_S), found()


def silent(prometheus: Prometheus, exprs: dict[str, str]) -> dict[str, str]:
    """The expressions without a number."""
    return {
        name: expr
        for name, expr in exprs.items()
        if not any(map(math.isfinite, values(prometheus, expr)))
    }


def test_the_saving_is_what_the_requests_say(metered: Server, tmp_path: Path) -> None:
    """And nothing before there are enough of them; every other expression has data, too."""
    exprs = {**dashboard_expressions(), **rule_expressions()}
    assert len(exprs) > 60
    unmeasured = {name: expr for name, expr in exprs.items() if "0 / (0 >" in expr}  # a pass@1
    assert len(unmeasured) == 1
    with metered.http(timeout=400.0) as client:  # a new engine compiles first
        client.post(CHAT_ROUTE, json=CHAT)
    window = exported(metered)
    with running_prometheus(tmp_path, metered.base.removeprefix("http://")) as prometheus:
        window = counted(window, ask(metered, undecided("few", 4)))
        num_requests = sum(arm.num for arm in window.values())
        assert_recorded(prometheus, UNKNOWN, num_requests)
        requests = undecided("many", MIN_REQUESTS)
        ask(metered, NAMED * 2)
        window = counted(window, ask(metered, requests))
        assert exported(metered) == window
        saving = estimate(window)
        means = {arm: sums.total / sums.num for arm, sums in window.items()}
        assert saving.estimate == pytest.approx(1 - means[TREATMENT] / means[CONTROL])
        assert 0 < saving.low < saving.estimate < saving.high < 1
        expected = dict(zip(RECORDED, (saving.estimate, saving.low, saving.high, 1.0), strict=True))
        assert {name: read(metered, f"saving_{name}") for name in RECORDED} == expected
        assert_recorded(prometheus, expected, num_requests + len(requests))
        assert wait_for(lambda: silent(prometheus, exprs) == unmeasured, TIMEOUT_S)
        assert values(prometheus, exprs["sottovoce-serving: HTTP answers by status B"]) > [0]
        assert prometheus.unhealthy_rules() == []
        assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_shortcuts_are_more_than_zero(short: Server, tmp_path: Path) -> None:
    """Layers run and skipped, their share, and latent steps: of a model that has them."""
    exprs = [
        expr for name, expr in dashboard_expressions().items() if name.startswith("sottovoce-short")
    ]
    request = ("cut", {**CHAT, "max_tokens": 8, "shortcuts": {"depth": 0.5, "steps": 3}})

    def are_there() -> bool:
        ask(short, [request])
        found = [values(prometheus, expr) for expr in exprs]
        num_series = [len(series) for series in found]
        return num_series == [2, 1, 1, 1] and all(v > 0 for series in found for v in series)

    with running_prometheus(tmp_path, short.base.removeprefix("http://")) as prometheus:
        assert wait_for(are_there, TIMEOUT_S), {expr: values(prometheus, expr) for expr in exprs}
