"""Shortcuts: layers that System-1.5 skipped, and latent steps taken."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from .panels import board, lines, rate, share, value

_LAYERS = "sottovoce_layer_executions_total"
_LATENT = rate("sottovoce_steps_total", where='kind="latent"')


def build() -> Dashboard:
    """The dashboard."""
    built = board("shortcuts", "Shortcuts", "Work that depth and step shortcuts leave out.")
    panels = (
        lines(
            "Layers by kind",
            "Layers of generated tokens and latent steps that were run or skipped.",
            "ops",
            (rate(_LAYERS, "kind"), "{{kind}}"),
            width=18,
        ),
        value("Layers skipped", "Share.", "percentunit", share(_LAYERS, 'kind="skipped"')),
        lines("Latent steps", "Steps of the latent phase.", "ops", (_LATENT, "latent steps")),
        lines(
            "Latent steps per generated token",
            "What the latent phase adds to the tokens that are written.",
            "short",
            (f"{_LATENT} / {rate('vllm:generation_tokens_total')}", "per token"),
        ),
    )
    for panel in panels:
        built = built.with_panel(panel)
    return built
