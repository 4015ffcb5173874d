"""Serving: latency, queue, KV cache and errors, most of it by vLLM's own metrics."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.timeseries import Panel

from .panels import SCOPE, board, lines, quantiles, rate


def _total(gauge: str) -> str:
    return f"sum by (instance) ({gauge}{{{SCOPE}}})"


def _latency() -> tuple[Panel, ...]:
    titles = {
        "vllm:time_to_first_token_seconds": (
            "Time to first token (TTFT)",
            "From arrival to the first token, of thinking or of the answer.",
        ),
        "vllm:request_time_per_output_token_seconds": (
            "Time per output token (TPOT)",
            "A request's mean time per token after the first.",
        ),
        "vllm:e2e_request_latency_seconds": (
            "Time of a request",
            "From arrival to the last token.",
        ),
    }
    return tuple(
        lines(title, says, "s", *quantiles(histogram), width=8)
        for histogram, (title, says) in titles.items()
    )


def _load() -> tuple[Panel, ...]:
    return (
        lines(
            "Requests in the engine",
            "Running and waiting, by replica.",
            "short",
            (_total("vllm:num_requests_running"), "running {{instance}}"),
            (_total("vllm:num_requests_waiting"), "waiting {{instance}}"),
            width=8,
        ),
        lines(
            "Time in the queue",
            "From arrival to the first time that the request is scheduled.",
            "s",
            *quantiles("vllm:request_queue_time_seconds"),
            width=8,
        ),
        lines(
            "Tokens",
            "Prompt tokens taken in and tokens generated.",
            "ops",
            (rate("vllm:prompt_tokens_total"), "prompt"),
            (rate("vllm:generation_tokens_total"), "generated"),
            width=8,
        ),
    )


def _cache() -> tuple[Panel, ...]:
    hits = f"{rate('vllm:prefix_cache_hits_total')} / {rate('vllm:prefix_cache_queries_total')}"
    return (
        lines(
            "KV cache in use",
            "Share of the blocks; near 1, requests are preempted and replayed.",
            "percentunit",
            (f"max by (instance) (vllm:kv_cache_usage_perc{{{SCOPE}}})", "{{instance}}"),
            width=8,
            maximum=1,
        ),
        lines(
            "Preemptions",
            "Requests that lost their KV cache to others.",
            "ops",
            (rate("vllm:num_preemptions_total", "instance"), "{{instance}}"),
            width=8,
        ),
        lines(
            "Prefix cache hits",
            "Share of the prompt tokens that were found in the cache.",
            "percentunit",
            (hits, "hits"),
            width=8,
            maximum=1,
        ),
    )


def _errors() -> tuple[Panel, ...]:
    # vLLM counts behind the gateway. What vLLM refuses is in both of our counts, and cancels out.
    refused = rate("sottovoce_requests_total", where='outcome="refused"')
    before = f"clamp_min({rate('sottovoce_rejections_total')} - {refused}, 0)"
    return (
        lines(
            "Requests by outcome",
            "Generation requests that ended.",
            "reqps",
            (rate("sottovoce_requests_total", "outcome"), "{{outcome}}"),
            width=8,
        ),
        lines(
            "Refusals by reason",
            "The error code of the answer.",
            "reqps",
            (rate("sottovoce_rejections_total", "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "HTTP answers by status",
            "vLLM's answers by class of status, and what the gateway refuses before vLLM sees it, with "
            "400, 401, 413, 429 or 503. Without health, metrics, load, version, and the playground.",
            "reqps",
            (rate("http_requests_total", "status"), "{{status}}"),
            (before, "refused by the gateway"),
            width=8,
        ),
    )


def build() -> Dashboard:
    """The dashboard."""
    built = board("serving", "Serving", "Latency, queue, KV cache and errors.")
    for panel in (*_latency(), *_load(), *_cache(), *_errors()):
        built = built.with_panel(panel)
    return built
