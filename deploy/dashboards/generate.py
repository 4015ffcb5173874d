"""The four dashboards as Grafana takes them."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import routing, savings, serving, shortcuts

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"


def render_all() -> dict[str, str]:
    """The JSON of each dashboard, by the name of its file."""
    built = [module.build().build() for module in (savings, routing, serving, shortcuts)]
    return {
        f"{dashboard.uid}.json": json.dumps(dashboard, cls=JSONEncoder, indent=1) + "\n"
        for dashboard in built
    }
