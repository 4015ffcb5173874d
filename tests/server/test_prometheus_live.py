"""What dashboards and rules ask, asked of a real Prometheus that scrapes a real server under load."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.expressions import dashboard_expressions, rule_expressions
from deploy.scraping import Prometheus, running_prometheus
from server.serving import Server, wait_for
from server.talk import BUDGET, CHAT, CHAT_ROUTE, body, post

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus: `apt-get install prometheus`"
)
TIMEOUT_S = 60.0
# Both arms, a named mode, and a refusal.
REQUESTS: tuple[dict[str, Any], ...] = (
    {**CHAT, "thinking_token_budget": BUDGET},
    body("routed"),
    body("explicit"),
    body("loud"),
)


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Requests of every kind, one after the other, for as long as the block runs."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            for request in REQUESTS:
                with server.http() as client:
                    client.post(CHAT_ROUTE, json=request)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield
    finally:
        is_over.set()
        asker.join()


def is_answered(prometheus: Prometheus, name: str, expr: str) -> bool:
    """Whether there is a number; NaN is the answer of a saving without evidence, typed or recorded."""
    values = [float(sample["value"][1]) for sample in prometheus.query(expr)]
    may_be_nan = "job:sottovoce_saving" in name + expr or "NaN" in expr
    return any(may_be_nan or math.isfinite(value) for value in values)


def silent(prometheus: Prometheus, exprs: dict[str, str]) -> dict[str, str]:
    """The expressions without a number."""
    return {name: expr for name, expr in exprs.items() if not is_answered(prometheus, name, expr)}


def test_every_expression_has_data(metered: Server, tmp_path: Path) -> None:
    exprs = {**dashboard_expressions(), **rule_expressions()}
    assert len(exprs) > 60
    post(metered, REQUESTS[0])  # a new engine's first one may take long
    target = metered.base.removeprefix("http://")
    with running_prometheus(tmp_path, target) as prometheus, load(metered):
        wait_for(lambda: not silent(prometheus, exprs), TIMEOUT_S)
        assert silent(prometheus, exprs) == {}
        assert prometheus.unhealthy_rules() == []
        (saving,) = prometheus.query("job:sottovoce_saving:ratio")
        assert saving["value"][1] == "NaN"  # too few requests
        assert prometheus.query('ALERTS{alertstate="firing"}') == []
