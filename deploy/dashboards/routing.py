"""Routing: what the router does at each thinking step, and what ends thinking early."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from .panels import SCOPE, AnyPanel, board, choice, density, lines, quantiles, rate, share, value

_STEPS = "sottovoce_steps_total"
_P_MAX = "sottovoce_confidence_ratio"
_TAU = "The threshold to compare p_max with: one of the histogram's bounds"
# Its last one, 1, has every step below it.
_BOUNDS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.99", "0.999")
_RECORDED = "Recorded for soft and traced requests."


def _steps() -> tuple[AnyPanel, ...]:
    return (
        lines(
            "Thinking steps by kind", _RECORDED, "ops", (rate(_STEPS, "kind"), "{{kind}}"), width=9
        ),
        lines(
            "Requests by policy",
            "By effective mode and policy.",
            "reqps",
            (rate("sottovoce_requests_total", "mode, policy"), "{{mode}} {{policy}}"),
            width=9,
        ),
        value("Soft share", _RECORDED, "percentunit", share(_STEPS, 'kind="soft"')),
    )


def _confidence() -> tuple[AnyPanel, ...]:
    at_most = rate(f"{_P_MAX}_bucket", where='le="$tau"')
    below = f"{at_most} / {rate(f'{_P_MAX}_count')}"
    return (
        density(
            "p_max, parted at tau = $tau",
            "Of soft and discrete steps. tau is the empty row next above $tau, the threshold chosen "
            "at the top: the rows under it are the steps whose p_max is not above the threshold.",
            "percentunit",
            _P_MAX,
            bound="tau",
        ),
        lines(
            "p_max and tau",
            "Quantiles of p_max at soft and discrete steps, with the threshold chosen at the top.",
            "percentunit",
            *quantiles(_P_MAX, shares=(0.1, 0.5, 0.9)),
            ("vector($tau)", "tau"),
            maximum=1,
        ),
        lines(
            "Steps at or below tau",
            "Share of the steps whose p_max is not above the threshold chosen at the top.",
            "percentunit",
            (below, "at or below tau"),
            maximum=1,
        ),
    )


def _turns() -> tuple[AnyPanel, ...]:
    return (
        lines(
            "Switches",
            f"Changes between soft and discrete, per thinking step. {_RECORDED}",
            "short",
            (f"{rate('sottovoce_switches_total')} / {rate(_STEPS)}", "per step"),
        ),
        lines(
            "Forced closes by cause",
            f"Ends of thinking that were forced. {_RECORDED}",
            "ops",
            (rate("sottovoce_forced_closes_total", "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Replays",
            "Requests that came back from preemption and had their soft inputs replayed.",
            "ops",
            (rate("sottovoce_replays_total"), "replays"),
            width=8,
        ),
        lines(
            "Ledger",
            "Memory that the soft inputs of live requests hold, and the ledger's size.",
            "bytes",
            (f"sum by (instance) (sottovoce_ledger_bytes{{{SCOPE}}})", "held {{instance}}"),
            (f"sum by (instance) (sottovoce_ledger_limit_bytes{{{SCOPE}}})", "size {{instance}}"),
            width=8,
        ),
    )


def build() -> Dashboard:
    """The dashboard."""
    built = board("routing", "Routing", "Soft and discrete thinking, step by step.")
    built = built.with_variable(choice("tau", "tau", _TAU, _BOUNDS, "0.7"))
    for panel in (*_steps(), *_confidence(), *_turns()):
        built = built.with_panel(panel)
    return built
