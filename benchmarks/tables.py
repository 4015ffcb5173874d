"""Writes the README's tables from the latest rows; `python -m benchmarks.tables`.

A table lies between `<!-- rows: NAME -->` and `<!-- end -->`; a row says which commit made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from .rows import RESULTS

README = Path(__file__).parent / "README.md"
_BLOCK = re.compile(r"(<!-- rows: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = Mapping[str, Any]


def latest(name: str, *keys: str) -> list[Row]:
    """The newest row for each value of `keys` of a file of results, in the file's order."""
    path = RESULTS / f"{name}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found: dict[str, Row] = {}
    for row in map(json.loads, lines):
        key = json.dumps([row[k] for k in keys])
        found.pop(key, None)
        found[key] = row
    return list(found.values())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown, without its last line break."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _shape(row: Row) -> list[object]:
    p = row["parameters"]
    return [p["rows"], f"{p['vocab']:,}", p["top_n"]]


def _bytes() -> str:
    rows = latest("kernels-bytes", "parameters")
    ops = ("read", "confidence", "decide", "mix")
    cells = ([*_shape(r)[1:], *(f"{r[op]:,}" for op in ops), f"{r['over_read']:.3f}"] for r in rows)
    return table(["vocabulary", "top n", *ops, "step / read"], cells)


def _static() -> str:
    rows = latest("kernels-static", "kernel", "arch", "dtype", "grid")
    header = ["kernel", "arch", "programs", "registers", "spilled bytes", "shared bytes",
              "16-byte loads", "lesser loads"]  # fmt: skip
    cells = (
        [f"`{r['kernel'].strip('_').removesuffix('_kernel')}`", f"sm_{r['arch']}",
         " x ".join(map(str, r["grid"])), r["registers"], r["spilled_bytes"], r["shared_bytes"],
         r["loads_of_16_bytes"], r["lesser_loads"]]
        for r in rows if r["dtype"] == "torch.bfloat16"
    )  # fmt: skip
    return table(header, cells)


_STEP, _READS = "step over a read of its logits", "confidence over a read of its logits"


def _times(name: str) -> str:
    rows = {metric: [r for r in latest(name, "metric", "parameters", "machine")
                     if r["metric"] == metric] for metric in (_STEP, _READS)}  # fmt: skip
    passes = {json.dumps(r["parameters"]): _ratio(r) for r in rows[_READS]}
    header = ["rows", "vocabulary", "top n", "machine", "step / read [p20, p80]",
              "`confidence` / read", "step, µs", "read, GB/s"]  # fmt: skip
    cells = (
        [*_shape(r), r["parameters"].get("gpu", r["machine"]["cpu"]), _ratio(r),
         passes.get(json.dumps(r["parameters"]), ""), f"{r['median_seconds'][0] * 1e6:.1f}", _rate(r)]
        for r in rows[_STEP]
    )  # fmt: skip
    return table(header, cells) if rows[_STEP] else "Not run here."


def _ratio(r: Row) -> str:
    return f"{r['p50']:.2f} [{r['p20']:.2f}, {r['p80']:.2f}]"


def _rate(row: Row) -> str:
    p = row["parameters"]
    return f"{p['rows'] * p['vocab'] * 4 / row['median_seconds'][1] / 1e9:.1f}"


def _measured(*names: str) -> str:
    """Rows of several files, one below the other, whatever their parameters."""
    rows = [row for name in names for row in latest(name, "metric", "parameters", "machine")]
    cells = (
        [f"{r['name']}: {r['metric']}", ", ".join(f"{k} {v}" for k, v in r["parameters"].items()),
         r["machine"]["cpu"], f"{_number(r['p50'])} [{_number(r['p20'])}, {_number(r['p80'])}]",
         r["unit"], r["n"]]
        for r in rows if "p50" in r
    )  # fmt: skip
    found = table(["what", "of", "machine", "median [p20, p80]", "unit", "n"], cells)
    return found if rows else "Not run yet."


def _number(value: float) -> str:
    return f"{value:.4g}"


def _memory() -> str:
    rows = [r for r in latest("ledger", "metric", "parameters") if r["metric"] == "memory"]
    columns = ["counted_bytes", "bytes_per_position", "resident_bytes_when_made",
               "resident_bytes_when_full"]  # fmt: skip
    cells = (
        [r["parameters"]["requests"], f"{r['parameters']['positions']:,}",
         *(f"{r[c]:,}" for c in columns)]
        for r in rows
    )  # fmt: skip
    header = ["requests", "positions", *(c.replace("_", " ") for c in columns)]
    return table(header, cells) if rows else "Not run yet."


def _startup() -> str:
    rows = latest("startup", "parameters", "machine")
    cells = (
        [r["parameters"]["model"], r["parameters"]["phase"], r["machine"]["cpu"],
         f"{r['p50']:.1f} [{r['p20']:.1f}, {r['p80']:.1f}]",
         f"{sorted(r['cpu_seconds'])[len(r['cpu_seconds']) // 2]:.1f}"]
        for r in rows
    )  # fmt: skip
    found = table(["model", "phase", "machine", "seconds [p20, p80]", "processor seconds"], cells)
    return found if rows else "Not run yet."


def _profile() -> str:
    rows = latest("profile", "parameters", "machine")
    ms: dict[tuple[str, str, str], dict[str, float]] = {}
    for r in rows:
        p = r["parameters"]
        for part, share in r["shares"].items():
            found = ms.setdefault((p["instrument"], r["machine"]["cpu"], part), {})
            found[p["mode"]] = share * r["step_ms"]
    cells = (
        [*key, f"{e:.2f}", f"{n:.2f}", f"{n - e:+.2f}"]
        for key, found in ms.items()
        for e, n in [(found.get("explicit", 0.0), found.get("latent", 0.0))]
    )
    header = ["instrument", "machine", "part", "`explicit`, ms", "`latent`, ms", "more, ms"]
    return table(header, cells) if rows else "Not run yet."


def _latent() -> str:
    rows = latest("latent", "parameters")
    header = ["method", "training steps", "seeds", "correct, % [least, most]",
              "with the fewest latents, %", "latents", "diversity", "texts read right, %"]  # fmt: skip
    methods = dict.fromkeys(r["parameters"]["method"] for r in rows)
    cells = (_seeds([r for r in rows if r["parameters"]["method"] == m]) for m in methods)
    return table(header, [*_others(), *cells]) if rows else "Not run yet."


def _others() -> list[list[object]]:
    """The reasoner in words and its System-1.5 student, both served, on the same problems."""
    found = {
        r["metric"]: 100 * r["value"]
        for r in latest("shortcuts", "metric", "parameters")
        if r["parameters"]["arm"] == "shortcuts@6+depth@off" and r["n"] == 2000 and "value" in r
    }
    words = ["in words", "", "", f"{found['accuracy of explicit']:.1f}", "", 0, "", ""]
    student = ["System-1.5", "2600", 1, f"{found['accuracy']:.1f}", "", "6.0", "", ""]
    return [words, student]


def _seeds(rows: Sequence[Row]) -> list[object]:
    """Means over a method's runs."""
    p, shares = rows[0]["parameters"], sorted(100 * r["value"] for r in rows)
    read = [100 * r["read"] for r in rows if r["read"] is not None]
    return [
        f"`{p['method']}`", p["steps"], len(rows),
        f"{mean(shares):.1f} [{shares[0]:.1f}, {shares[-1]:.1f}]",
        f"{100 * mean(r['fewest'] for r in rows):.1f}", f"{mean(r['latents'] for r in rows):.1f}",
        f"{mean(r['diversity'] for r in rows):.2f}", f"{mean(read):.1f}" if read else "",
    ]  # fmt: skip


def _spread(r: Row) -> str:
    return f"{r['p50']:.3f} [{r['p20']:.3f}, {r['p80']:.3f}]"


def _peers() -> str:
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
        cells.append([r["parameters"]["peer"], load, r["machine"]["cpu"], _spread(r),
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


def _sweep() -> str:
    cells = (
        [axis, f"{_value(r):,}", r["machine"]["cpu"],
         *(f"{1e3 * s:.2f}" for s in r["median_seconds"]), _spread(r)]
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


def _check() -> str:
    cells = (
        [r["metric"], r["machine"]["cpu"], _spread(r),
         f"at {'least' if r['better'] == 'higher' else 'most'} {r['bar']}", r["verdict"], r["n"]]
        for r in latest("check", "metric", "machine")
    )  # fmt: skip
    rows = list(cells)
    header = ["case", "machine", "ratio [p20, p80]", "bar", "verdict", "pairs"]
    return table(header, rows) if rows else "Not run yet."


def _serving() -> str:
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


TABLES: dict[str, Callable[[], str]] = {
    "kernels-bytes": _bytes,
    "kernels-static": _static,
    "kernels-cpu": lambda: _times("kernels-cpu"),
    "kernels-gpu": lambda: _times("kernels-gpu"),
    "ledger": _memory,
    "overheads": lambda: _measured("ledger", "replay", "books", "http"),
    "startup": _startup,
    "profile": _profile,
    "latent": _latent,
    "peers": _peers,
    "sweep": _sweep,
    "check": _check,
    "serving": _serving,
}


def rendered(text: str) -> str:
    """A README with its tables made anew; a name without a table raises KeyError."""
    return _BLOCK.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
