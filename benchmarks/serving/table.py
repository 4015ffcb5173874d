"""The load test, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from ..markdown import Row, latest, table


def serving() -> str:
    """A line for each mode of a run."""
    rows = latest("serving", "parameters")
    header = ["profile", "level", "tool", "mode", "TTFT p50 / p95 / p99, ms",
              "first answer token p50 / p95, ms", "TPOT p50, ms", "latency p50 / p95 / p99, ms",
              "requests/s", "tokens/s", "right, % [95 %]", "thinking steps", "goodput/s",
              "errors"]  # fmt: skip
    found = table(header, map(_load, rows))
    machines = dict.fromkeys(
        f"{r['parameters']['model']}, {r['parameters']['sampling']}; {r['machine']['cpu']}, "
        f"{r['setting']['cores']} cores; commit {r['commit'][:7]}{' (dirty)' if r['dirty'] else ''}"
        for r in rows
    )
    return f"{found}\n\nMeasured with {', and '.join(machines)}." if rows else "Not run yet."


def _load(r: Row) -> list[object]:
    p, times, right = r["parameters"], r["times"], r["accuracy"]
    low, value, high = (f"{100 * right[k]:.1f}" for k in ("low", "value", "high"))
    return [
        p["profile"], f"{p['level']:g}", p["tool"], f"`{p['mode']}`{', mixed' * p['is_mixed']}",
        _points(times["ttft"], "p50", "p95", "p99"), _points(times["first_answer"], "p50", "p95"),
        _points(times["tpot"], "p50"), _points(times["seconds"], "p50", "p95", "p99"),
        f"{r['throughput']:.2f}", f"{r['tokens_per_s']:.0f}", f"{value} [{low}, {high}]",
        "" if r["thinking"] is None else f"{r['thinking']:.1f}", f"{r['goodput']:.2f}", r["errors"],
    ]  # fmt: skip


def _points(seconds: Mapping[str, float] | None, *names: str) -> str:
    return " / ".join(f"{1000 * seconds[name]:.0f}" for name in names) if seconds else ""
