"""Writes the README's tables from the latest rows; `python -m benchmarks.tables`.

A table lies between `<!-- rows: NAME -->` and `<!-- end -->`; a row says which commit made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from .markdown import Row, latest, spread, table
from .peers.table import peers, sweep
from .quality.table import quality
from .serving.table import serving

README = Path(__file__).parent / "README.md"
_BLOCK = re.compile(r"(<!-- rows: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
        for r in rows if r["dtype"] == f"torch.{'bfloat16' if r['kernel'] == '_mix_kernel' else 'float32'}"
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


_STUDENT = "shortcuts@6+depth@off"  # so many latents, and no layer skipped


def _others() -> list[list[object]]:
    """The reasoner in words and its System-1.5 student, both served, on the same problems."""
    found = {
        r["metric"]: 100 * r["value"]
        for r in latest("shortcuts", "metric", "parameters")
        if r["parameters"]["arm"] == _STUDENT and r["n"] == 2000 and "value" in r
    }
    words = ["in words", "", "", f"{found['accuracy of explicit']:.1f}", "", 0, "", ""]
    num_latents = f"{float(_STUDENT.removeprefix('shortcuts@').split('+')[0]):.1f}"
    student = ["System-1.5", "", 1, f"{found['accuracy']:.1f}", "", num_latents, "", ""]
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


def _check() -> str:
    cells = (
        [r["metric"], r["machine"]["cpu"], spread(r),
         f"at {'least' if r['better'] == 'higher' else 'most'} {r['bar']}", r["verdict"], r["n"]]
        for r in latest("check", "metric", "machine")
    )  # fmt: skip
    rows = list(cells)
    header = ["case", "machine", "ratio [p20, p80]", "bar", "verdict", "pairs"]
    return table(header, rows) if rows else "Not run yet."


# What is compared, what it is called, and the bar: at least that of a throughput, at most that of a step.
_STEPS = {
    "throughput": ("throughput, `explicit` over vLLM's V1 runner", 0.95),
    "step time, latent over explicit": ("step, `latent` over `explicit`", 1.05),
    "step time, routed over explicit": ("step, `routed` over `explicit`", 1.05),
    "step time, latent with trace over latent": ("step, `latent` traced over untraced", 1.05),
}
_SIZES = (1, 8, 16, 32, 64, 256)


def _steps() -> str:
    rows = [
        r
        for name in ("explicit_vs_v1", "step")
        for r in latest(name, "metric", "parameters", "machine")
    ]
    lines: dict[str, dict[int, Row]] = {}
    for r in (r for r in rows if r["metric"] in _STEPS):
        p, machine = r["parameters"], r["machine"]
        what = ", ".join([_STEPS[r["metric"]][0], *([p["sampling"]] if "sampling" in p else [])])
        where = f"{machine['cpu']}, {machine['cores']} cores"
        # Rows before the second of the machines do not say it.
        about = [what, p.get("shape", "SmolLM2-135M"), p.get("dtype", "bfloat16"), where]
        lines.setdefault(json.dumps(about), {})[p["concurrent"]] = r
    cells = (
        [*json.loads(about), *(_kept(of[n]) if n in of else "" for n in _SIZES)]
        for about, of in sorted(lines.items(), key=lambda line: json.loads(line[0])[0])
    )
    return table(["ratio", "model", "dtype", "machine", *map(str, _SIZES)], cells)


def _kept(r: Row) -> str:
    """The ratio, in bold if its median misses the bar."""
    name, bar = _STEPS[r["metric"]]
    is_kept = r["p50"] >= bar if name.startswith("throughput") else r["p50"] <= bar
    median, rest = spread(r).split(" ", 1)
    return f"{median if is_kept else f'**{median}**'} {rest}"


TABLES: dict[str, Callable[[], str]] = {
    "steps": _steps,
    "kernels-bytes": _bytes,
    "kernels-static": _static,
    "kernels-cpu": lambda: _times("kernels-cpu"),
    "kernels-gpu": lambda: _times("kernels-gpu"),
    "ledger": _memory,
    "overheads": lambda: _measured("ledger", "replay", "books", "message", "http"),
    "startup": _startup,
    "profile": _profile,
    "latent": _latent,
    "peers": peers,
    "sweep": sweep,
    "check": _check,
    "serving": serving,
    "quality-greedy": quality("tiny-reasoner", "greedy", "routed@0.7"),
    "quality-policies": quality("tiny-reasoner", "greedy", "stochastic"),
    "quality-t0.6": quality("tiny-reasoner", "t0.6", "routed@0.7"),
    "quality-smollm2-greedy": quality("smollm2", "greedy", "routed@0.7"),
    "quality-smollm2-t0.6": quality("smollm2", "t0.6", "routed@0.7"),
}


def rendered(text: str) -> str:
    """A README with its tables made anew; a name without a table raises KeyError."""
    return _BLOCK.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
