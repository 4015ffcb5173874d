"""The dashboards: their JSON is what the Python generates, and every metric in them exists."""

from __future__ import annotations

import json
import re

from prometheus_client import CollectorRegistry

from deploy.dashboards import FOLDER, render_all
from deploy.expressions import (
    DASHBOARDS,
    dashboard_expressions,
    metrics_of,
    rule_expressions,
    rules,
)
from sottovoce_server.metrics import Metrics


def exported() -> set[str]:
    """Our metrics, and what the rules record."""
    registry = CollectorRegistry()
    Metrics(registry)
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name for sample in samples} | {r["record"] for r in rules() if "record" in r}


def asked() -> set[str]:
    """Metrics that dashboards and rules name."""
    exprs = [*dashboard_expressions().values(), *rule_expressions().values()]
    return {name for expr in exprs for name in metrics_of(expr)}


def test_the_committed_json_is_the_generated_one() -> None:
    """`python -m deploy.dashboards` writes it."""
    committed = {path.name: path.read_text() for path in DASHBOARDS}
    assert committed == render_all()
    assert {path.parent for path in DASHBOARDS} == {FOLDER}


def test_every_metric_of_ours_exists() -> None:
    ours = {name for name in asked() if not name.startswith(("vllm:", "http_"))}
    assert len(ours) > 20
    assert ours - exported() == set()


def test_panels_fill_their_rows() -> None:
    """No two overlap, and none hangs out."""
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            where = panel["gridPos"]
            columns = range(where["x"], where["x"] + where["w"])
            cells = {(where["y"], x) for x in columns}
            assert max(columns) < 24
            assert not cells & taken
            taken |= cells


def test_every_variable_is_declared() -> None:
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        declared = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
        assert used - declared == {"__rate_interval"}


def test_series_of_two_jobs_have_two_names() -> None:
    """What the rules record is a job's: its legend says whose, or its panel is of one job."""
    num = 0
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            targets = [t for t in panel["targets"] if re.search(r"\bjob\w*:", t["expr"])]
            num += len(targets)
            if panel.get("repeat") == "job":
                assert "$job" in panel["title"]
            else:
                assert [t["expr"] for t in targets if "{{job}}" not in t["legendFormat"]] == []
    assert num > 5


def test_the_interval_is_filled() -> None:
    """Between two series that the panel has."""
    panel = json.loads((FOLDER / "sottovoce-savings.json").read_text())["panels"][1]
    (override,) = panel["fieldConfig"]["overrides"]
    (fill,) = override["properties"]
    assert fill["id"] == "custom.fillBelowTo"
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert {override["matcher"]["options"], fill["value"]} <= set(legends)
    assert len(set(legends)) == len(legends)


def test_no_evidence_is_a_state() -> None:
    """A saving that is NaN or missing reads so."""
    board = json.loads((FOLDER / "sottovoce-savings.json").read_text())
    defaults = board["panels"][0]["fieldConfig"]["defaults"]
    assert board["panels"][0]["title"] == "Saving"
    assert defaults["noValue"] == "no evidence"
    (mapping,) = defaults["mappings"]
    assert mapping["options"]["match"] == "null+nan"
    assert mapping["options"]["result"]["text"] == "no evidence"
