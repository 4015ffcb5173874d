"""Prometheus's rules, by its own promtool, and against the server's estimate of the saving."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from deploy.expressions import DEPLOY, RULES
from deploy.promtool import NEEDS_PROMTOOL, promtool
from sottovoce_server.savings import CONTROL, TREATMENT, Saving, Sums, Window, estimate

pytestmark = NEEDS_PROMTOOL
_UNITS = {"requests": "num", "tokens": "total", "squared_tokens": "squares"}


def test_rules_are_valid() -> None:
    promtool("check", "rules", str(RULES))


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", str(DEPLOY / "prometheus" / "rules_test.yml"))


def windows(scale: float, num: int) -> list[dict[str, Sums]]:
    """The windows of two replicas; the treatment's lengths are `scale` times as long."""
    rng = random.Random(scale * num)
    found = []
    for share in (0.3, 0.7):
        window = Window()
        for _ in range(int(num * share)):
            window.add(CONTROL, int(rng.gammavariate(2, 100)))
            window.add(TREATMENT, int(rng.gammavariate(2, 100 * scale)))
        found.append(window.sums)
    return found


def series(replicas: list[dict[str, Sums]]) -> list[dict[str, str]]:
    """What the replicas export."""
    return [
        {
            "series": f'sottovoce_saving_window_{unit}{{job="s", instance="{i}", arm="{arm}"}}',
            "values": f"{getattr(sums, field):.0f}x1",
        }
        for i, replica in enumerate(replicas)
        for arm, sums in replica.items()
        for unit, field in _UNITS.items()
    ]


def pooled(replicas: list[dict[str, Sums]]) -> Saving:
    """The server's own estimate of all of them."""
    fields = _UNITS.values()
    return estimate(
        {
            arm: Sums(*(sum(getattr(replica[arm], f) for replica in replicas) for f in fields))
            for arm in (CONTROL, TREATMENT)
        }
    )


def check(tmp_path: Path, replicas: list[dict[str, Sums]], expected: dict[str, float]) -> None:
    """Each expression has one series, of job s, with this value."""
    checks = [
        {"expr": expr, "eval_time": "1m", "exp_samples": [{"labels": '{job="s"}', "value": value}]}
        for expr, value in expected.items()
    ]
    test = {"interval": "1m", "input_series": series(replicas), "promql_expr_test": checks}
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    promtool("test", "rules", str(path))


@pytest.mark.parametrize(("scale", "num"), [(0.7, 2000), (1.3, 2000), (0.5, 250)])
def test_the_saving_of_all_replicas(tmp_path: Path, scale: float, num: int) -> None:
    saving = pooled(windows(scale, num))
    assert saving.has_evidence
    recorded = {"": saving.estimate, "_low": saving.low, "_high": saving.high}
    places = {
        f"round(job:sottovoce_saving{name}:ratio, 1e-6)": round(value, 6)
        for name, value in recorded.items()
    }
    check(tmp_path, windows(scale, num), {**places, "abs(job:sottovoce_saving:has_evidence)": 1})


@pytest.mark.parametrize(("scale", "num", "has_bounds"), [(1.0, 2000, 1), (0.5, 190, 0)])
def test_no_evidence(tmp_path: Path, scale: float, num: int, has_bounds: int) -> None:
    """NaN, and not absent, for an interval that holds zero and for an arm that is too small."""
    replicas = windows(scale, num)
    assert not pooled(replicas).has_evidence
    assert math.isfinite(pooled(replicas).low) == bool(has_bounds)
    expected = {
        "job:sottovoce_saving:ratio": 0,
        "job:sottovoce_saving_low:ratio": has_bounds,
        "job:sottovoce_saving_high:ratio": has_bounds,
    }
    equals_itself = {f"{name} == bool {name}": known for name, known in expected.items()}
    check(tmp_path, replicas, {**equals_itself, "abs(job:sottovoce_saving:has_evidence)": 0})
