"""Every expression that a dashboard or a rule asks Prometheus, ready to be asked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
_VARIABLES = {
    "__rate_interval": "1m",
    "job": ".*",
    "instance": ".*",
    "tau": "0.7",
    "pass_explicit": "0.9",
    "pass_latent": "",
    "pass_routed": "0.8",
}
_METRIC = re.compile(r"\b(?:sottovoce_|vllm:|http_|job\w*:|instance:)[\w:]+")
_COMPARISON = re.compile(r"(==|>|<) ")


def _panels(path: Path) -> list[Any]:
    panels: list[Any] = json.loads(path.read_text())["panels"]
    return panels


def dashboard_expressions(**variables: str) -> dict[str, str]:
    """The targets of every panel, by dashboard, panel and number.

    Args:
        variables: what a reader chose or typed.
    """
    known = {**_VARIABLES, **variables}
    return {
        f"{path.stem}: {panel['title']} {target['refId']}": re.sub(
            r"\$(\w+)|\$\{(\w+)\}", lambda found: known[found[1] or found[2]], target["expr"]
        )
        for path in DASHBOARDS
        for panel in _panels(path)
        for target in panel["targets"]
    }


def rules() -> list[Any]:
    """Every rule."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rule_expressions() -> dict[str, str]:
    """Every rule's expression; an alert's tells 0 or 1, for an alert that is silent has no data."""
    return {
        rule.get("record") or rule["alert"]: _COMPARISON.sub(r"\1 bool ", rule["expr"])
        if "alert" in rule
        else rule["expr"]
        for rule in rules()
    }


def metrics_of(expr: str) -> set[str]:
    """The metrics that an expression names."""
    return set(_METRIC.findall(re.sub(r"by \([^)]*\)", "", expr)))
