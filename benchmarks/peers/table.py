"""The peers and the curves, as tables."""

from __future__ import annotations

import json

from ..markdown import Row, latest, spread, table


def peers() -> str:
    """A line for each peer and load."""
    loads: dict[str, dict[str, Row]] = {}
    for r in latest("peers", "metric", "parameters", "machine"):
        key = json.dumps([r["parameters"], r["machine"]])
        loads.setdefault(key, {})[r["metric"]] = r
    header = ["peer", "load", "machine", "throughput over it [p20, p80]", "latency p50 over its",
              "p95", "peak MiB, ours / its"]  # fmt: skip
    cells = []
    for found in loads.values():
        r, mib = found["throughput over it"], found.get("peak memory")  # last, if not cut off
        memory = f"{mib['p50']:,.0f} / {mib['its']:,.0f}" if mib else ""
        slower = (found.get(f"latency {p} over its") for p in ("p50", "p95"))
        load = f"{r['parameters']['load']}, {r['parameters']['steps']}"
        cells.append([r["parameters"]["peer"], load, r["machine"]["cpu"], spread(r),
                      *(f"{s['p50']:.3f}" if s else "" for s in slower), memory])  # fmt: skip
    return table(header, cells) if cells else "Not run yet."


def curves() -> dict[str, list[Row]]:
    """The points of each axis that was swept, by value: the latest of the latest sweep's likes."""
    found: dict[str, list[Row]] = {}
    for r in latest("sweep", "metric", "parameters", "machine"):
        if r["metric"] == "step, latent over explicit":
            found.setdefault(r["parameters"]["axis"], []).append(r)

    def like(r: Row) -> list[object]:
        return [r["machine"], r["parameters"]["dtype"], r["parameters"]["steps"]]

    return {
        axis: sorted((r for r in rows if like(r) == like(rows[-1])), key=_value)
        for axis, rows in found.items()
    }


def _value(row: Row) -> int:
    return int(row["parameters"]["value"])


def sweep() -> str:
    """A line for each point of a curve, and below them the powers."""
    cells = (
        [axis, f"{_value(r):,}", r["machine"]["cpu"],
         *(f"{1e3 * s:.2f}" for s in r["median_seconds"]), spread(r)]
        for axis, rows in curves().items() for r in rows
    )  # fmt: skip
    header = ["axis", "value", "machine", "latent step, ms", "explicit, ms", "ratio [p20, p80]"]
    powers: dict[str, dict[str, str]] = {}
    for r in latest("sweep", "metric", "parameters", "machine"):
        if r["metric"] == "power of the axis":
            p = r["parameters"]
            powers.setdefault(p["axis"], {})[p["of"]] = f"{p['of']} {r['p50']:.3f}"
    said = "; ".join(f"`{axis}`: {', '.join(of.values())}" for axis, of in powers.items())
    below = f"\n\nPowers of the axis that they grow with: {said}." if said else ""
    return table(header, cells) + below if curves() else "Not run yet."
