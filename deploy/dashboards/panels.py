"""What the dashboards have in common: the variables, and panels in one style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models.common import VisibilityMode

JOB = 'job=~"$job"'
SCOPE = f'{JOB}, instance=~"$instance"'  # a recorded metric has no instance: it is a job's
RANGE = "[$__rate_interval]"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8

Query = tuple[str, str]  # an expression, and the legend of its series
AnyPanel = timeseries.Panel | stat.Panel | heatmap.Panel
Panel = TypeVar("Panel", timeseries.Panel, stat.Panel, heatmap.Panel)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """The rate of a counter per second, summed over everything but the labels in `by`.

    Args:
        where: a matcher more, such as `kind="soft"`.
    """
    matchers = f"{SCOPE}, {where}" if where else SCOPE
    return f"sum by ({by}) (rate({metric}{{{matchers}}}{RANGE}))"


def share(metric: str, where: str, by: str = "") -> str:
    """The part of what a counter counts that matches `where`, 0 to 1."""
    return f"{rate(metric, by, where)} / {rate(metric, by)}"


def quantiles(
    histogram: str, by: str = "", shares: Sequence[float] = (0.5, 0.95, 0.99)
) -> list[Query]:
    """A series for each quantile of a histogram, and for each value of the label `by`."""
    buckets = rate(f"{histogram}_bucket", f"le, {by}" if by else "le")
    name = f" {{{{{by}}}}}" if by else ""
    return [(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}{name}") for q in shares]


def _targets(
    panel: Panel, queries: Sequence[Query], form: prometheus_model.PromQueryFormat
) -> Panel:
    for index, (expr, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).format(form)
        panel = panel.with_target(target.ref_id(chr(ord("A") + index)))
    return panel


def _style(panel: Panel, title: str, says: str, unit: str, width: int) -> Panel:
    panel = panel.title(title).description(says).unit(unit).datasource(SOURCE)
    return panel.span(width).height(HEIGHT)


def lines(
    title: str, says: str, unit: str, *queries: Query, width: int = 12, maximum: float | None = None
) -> timeseries.Panel:
    """Series over time."""
    panel = _style(timeseries.Panel(), title, says, unit, width).show_points(VisibilityMode.NEVER)
    if maximum is not None:
        panel = panel.min(0).max(maximum)
    return _targets(panel, queries, prometheus_model.PromQueryFormat.TIME_SERIES)


def value(
    title: str, says: str, unit: str, query: str, legend: str = "", absent: str = "no data"
) -> stat.Panel:
    """The newest value; NaN and nothing at all both read as `absent`."""
    text = model.ValueMappingResult(text=absent, color="text")
    options = model.DashboardSpecialValueMapOptions(model.SpecialValueMatch.NULL_AND_NAN, text)
    panel = _style(stat.Panel(), title, says, unit, 6).no_value(absent)
    panel = panel.mappings([model.SpecialValueMap(options)])
    return _targets(panel, [(query, legend)], prometheus_model.PromQueryFormat.TIME_SERIES)


def density(
    title: str, says: str, unit: str, histogram: str, bound: str, width: int = 12
) -> heatmap.Panel:
    """A histogram over time, with a line at one of its bounds.

    A heatmap draws no lines: the line is a bucket more, next above the bound and empty.

    Args:
        bound: the variable that holds it.
    """
    panel = _style(heatmap.Panel(), title, says, unit, width).calculate(False)
    panel = panel.y_axis(heatmap.YAxisConfig().unit(unit))
    buckets = rate(f"{histogram}_bucket", "le")
    at_bound = rate(f"{histogram}_bucket", "le", f'le="${bound}"')
    line = f'label_replace({at_bound}, "le", "${{{bound}}}001", "", "")'
    return _targets(
        panel, [(f"{buckets} or {line}", "{{le}}")], prometheus_model.PromQueryFormat.HEATMAP
    )


def number(name: str, label: str, says: str) -> dashboard.TextBoxVariable:
    """A number that the reader types, or leaves empty: `typed` reads it."""
    current = model.VariableOption(text="", value="")
    box = dashboard.TextBoxVariable(name).label(label).description(says)
    return box.default_value("").current(current)


def typed(name: str) -> str:
    """The number in a text box; NaN where it is 0 or the box is empty."""
    return f"(0${name} / (0${name} > bool 0))"  # a leading 0 changes no number, and is one alone


def choice(
    name: str, label: str, says: str, values: Sequence[str], default: str
) -> dashboard.CustomVariable:
    """One of a few values."""
    current = model.VariableOption(text=default, value=default)
    box = dashboard.CustomVariable(name).label(label).description(says).current(current)
    return box.values(",".join(values)).allow_custom_value(False)


def _series(name: str, query: str) -> dashboard.QueryVariable:
    every = model.VariableOption(text="All", value="$__all")
    variable = dashboard.QueryVariable(name).query(query).datasource(SOURCE).current(every)
    variable = variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.multi(True).include_all(True).all_value(".*")


def board(uid: str, title: str, says: str) -> dashboard.Dashboard:
    """A dashboard without panels, with the variables that all of them have."""
    built = dashboard.Dashboard(f"Sottovoce: {title}").uid(f"sottovoce-{uid}").description(says)
    built = built.tags(["sottovoce"]).refresh("30s").time("now-1h", "now").timezone("browser")
    built = built.tooltip(model.DashboardCursorSync.CROSSHAIR)
    built = built.with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    built = built.with_variable(_series("job", "label_values(sottovoce_requests_total, job)"))
    instances = 'label_values(sottovoce_requests_total{job=~"$job"}, instance)'
    return built.with_variable(_series("instance", instances))
