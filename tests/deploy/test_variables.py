"""What a reader chooses or types at the top of a dashboard, in the expressions that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.dashboards import FOLDER
from deploy.expressions import dashboard_expressions
from deploy.promtool import NEEDS_PROMTOOL, promtool
from sottovoce_server.metrics import Metrics

pytestmark = NEEDS_PROMTOOL
GOODPUT = "sottovoce-savings: Quality-gated goodput A"
HEATMAP = "sottovoce-routing: p_max, parted at tau = $tau A"
LINE = "sottovoce-routing: p_max and tau D"
CONFIDENCE = "sottovoce_confidence_ratio_bucket"


def bounds() -> list[str]:
    """Those of p_max's histogram, as the server writes them."""
    registry = CollectorRegistry()
    Metrics(registry)
    samples = [sample for family in registry.collect() for sample in family.samples]
    return list(dict.fromkeys(s.labels["le"] for s in samples if s.name == CONFIDENCE))


def choices() -> list[str]:
    """The values of tau to choose from."""
    board = json.loads((FOLDER / "sottovoce-routing.json").read_text())
    (tau,) = [v for v in board["templating"]["list"] if v["name"] == "tau"]
    assert tau["type"] == "custom"
    assert tau["current"]["value"] in tau["query"].split(",")
    return str(tau["query"]).split(",")


def check(tmp_path: Path, series: dict[str, str], expected: dict[str, Any]) -> None:
    """What each expression gives, by its labels, two minutes after these series begin."""
    checks = [
        {"expr": expr, "eval_time": "2m",
         "exp_samples": [{"labels": labels, "value": v} for labels, v in samples.items()]}
        for expr, samples in expected.items()
    ]  # fmt: skip
    test = {
        "interval": "1s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": checks,
    }
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"tests": [test]}))
    promtool("test", "rules", str(path))


@pytest.mark.parametrize(
    ("typed", "share"),
    [("0.8", 0.8), (".5", 0.5), ("1", 1), ("1.0", 1), ("0.75", 0.75), ("", None), ("0", None)],
)
def test_goodput_of_what_was_typed(tmp_path: Path, typed: str, share: float | None) -> None:
    """NaN where nothing was."""
    expr = dashboard_expressions(pass_explicit=typed)[GOODPUT]
    labels = 'job="s", instance="a", mode="explicit", outcome="ok"'
    expected: dict[str, Any] = {f"({expr}) == bool ({expr})": {"{}": float(share is not None)}}
    if share is not None:
        expected[f"round({expr}, 1e-6)"] = {"{}": 2 * share}
    check(tmp_path, {f"sottovoce_requests_total{{{labels}}}": "0+2x120"}, expected)


def test_tau_is_one_of_the_bounds() -> None:
    assert choices() == [le for le in bounds() if le not in ("1.0", "+Inf")]


def test_the_heatmap_is_parted_at_tau(tmp_path: Path) -> None:
    """A bucket more between tau and the next bound, in which there is nothing; the others stay."""
    each = {le: index + 1 for index, le in enumerate(bounds())}  # cumulative, a second
    series = {
        f'{CONFIDENCE}{{job="s", instance="a", mode="latent", le="{le}"}}': f"0+{rate}x120"
        for le, rate in each.items()
    }
    expected: dict[str, Any] = {}
    for tau in choices():
        exprs = dashboard_expressions(tau=tau)
        wanted = {**each, f"{tau}001": each[tau]}
        in_order = [wanted[le] for le in sorted(wanted, key=float)]
        assert in_order == sorted(in_order)
        expected[f"round({exprs[HEATMAP]}, 1e-6)"] = {
            f'{{le="{le}"}}': value for le, value in wanted.items()
        }
        expected[exprs[LINE]] = {"{}": float(tau)}
    check(tmp_path, series, expected)
