"""Savings: what the default mode saves against the control arm, and whether the answers still come."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from .panels import JOB, AnyPanel, board, lines, number, quantiles, rate, share, typed, value

_MODES = ("explicit", "latent", "routed")
_REQUESTS = "sottovoce_requests_total"
_SAVING = f"job:sottovoce_saving:ratio{{{JOB}}}"
_WINDOW = "job_arm:sottovoce_saving_window"
_ARM = "{{arm}} {{job}}"
_PASS = "pass@1 of this mode by `python -m benchmarks.quality`, 0 to 1; empty: not measured"
_EVIDENCE = (
    "Over all replicas of a job, from the sums of their windows. There is no evidence while the "
    "interval holds zero, or while an arm has fewer than 200 requests."
)
_GOODPUT = (
    "Right answers per second: requests answered in full, times the pass@1 of their mode, which is "
    "measured offline and typed in above. A mode that was not measured has none."
)


def _estimate() -> tuple[AnyPanel, ...]:
    # One panel a job: the fill between the bounds goes by a series' name, so it must be the only one.
    interval = lines(
        "Saving with its 95% interval: $job",
        f"{_EVIDENCE} Below zero it is a loss.",
        "percentunit",
        (f"job:sottovoce_saving_low:ratio{{{JOB}}}", "low"),
        (f"job:sottovoce_saving_high:ratio{{{JOB}}}", "high"),
        (_SAVING, "saving"),
        width=18,
    )
    return (
        value("Saving", _EVIDENCE, "percentunit", _SAVING, legend="{{job}}", absent="no evidence"),
        interval.override_by_name("high", [DynamicConfigValue("custom.fillBelowTo", "low")])
        .repeat("job")
        .repeat_direction("v"),
    )


def _lengths() -> tuple[AnyPanel, ...]:
    return (
        lines(
            "Requests in the window",
            "Each arm needs 200 before there is an estimate.",
            "short",
            (f"{_WINDOW}:requests{{{JOB}}}", _ARM),
            width=8,
        ),
        lines(
            "Mean thinking length",
            "Reasoning tokens of a request, over the window.",
            "short",
            (f"{_WINDOW}:tokens{{{JOB}}} / {_WINDOW}:requests{{{JOB}}}", _ARM),
            width=8,
        ),
        lines(
            "Thinking length",
            "Reasoning tokens of a finished choice; arm `none`: the request named its mode.",
            "short",
            *quantiles("sottovoce_reasoning_length_tokens", "arm", (0.5, 0.95)),
            width=8,
        ),
    )


def _good(mode: str) -> str:
    return f'mode="{mode}", outcome="ok"'


def _answers() -> tuple[AnyPanel, ...]:
    return (
        lines(
            "Quality-gated goodput",
            _GOODPUT,
            "reqps",
            *(
                (f"{rate(_REQUESTS, where=_good(mode))} * {typed(f'pass_{mode}')}", mode)
                for mode in _MODES
            ),
        ),
        lines(
            "Answered in full",
            "Share of the requests that ended so, by effective mode.",
            "percentunit",
            (share(_REQUESTS, 'outcome="ok"', "mode"), "{{mode}}"),
            maximum=1,
        ),
    )


def build() -> Dashboard:
    """The dashboard."""
    built = board("savings", "Savings", "Reasoning tokens saved, measured against a control arm.")
    for mode in _MODES:
        built = built.with_variable(number(f"pass_{mode}", f"pass@1 {mode}", _PASS))
    for panel in (*_estimate(), *_lengths(), *_answers()):
        built = built.with_panel(panel)
    return built
