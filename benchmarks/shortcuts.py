"""`python -m benchmarks.shortcuts`: what System-1.5's shortcuts save, and what they cost.

Two arms on one engine, run in turn on the same held-out problems: the model thinking in words, and
its student with shortcuts. Rows go to `results/shortcuts.jsonl`; `--table` prints them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sottovoce_training.families import FAMILIES, Problem
from sottovoce_training.reasoner.evaluate import validation_problems
from sottovoce_training.reasoner.tokenizer import END_THINK, load_tokenizer, prompt_of

from .engine import Answer, Engine
from .pairing import Pair, alternated, paired
from .quality.arms import parse_arm
from .quality.statistics import Estimate, mcnemar, mean_difference, mean_saving
from .rows import RESULTS, append, percentiles, write

NAME, BASE = "shortcuts", "explicit"
CONCURRENT = 16
MAX_TOKENS = 512
OPTIONS: dict[str, Any] = {
    "max_model_len": 1024, "max_num_seqs": CONCURRENT, "kv_cache_memory_bytes": 1 << 30,
    "reasoning_parser": "deepseek_r1", "disable_log_stats": True,
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How one problem went in one arm."""

    is_right: bool
    num_thinking: int  # steps, latent or in words, with the marker that ends them
    num_layers: int  # layer executions after the prompt, skipped ones included
    num_skipped: int


def read_answer(problem: Problem, answer: Answer, tokenizer: Any, num_layers: int) -> Reading:
    """Score an answer. Without an end of thinking it is wrong, and all of it is thinking."""
    ids, marker = answer.token_ids, tokenizer.convert_tokens_to_ids(END_THINK)
    num_thinking = ids.index(marker) + 1 if marker in ids else len(ids)
    text = tokenizer.decode(ids[num_thinking:], skip_special_tokens=True)
    is_right = marker in ids and FAMILIES[problem.family].score(text, problem.entry) == 1.0
    # The last token is read by no one.
    return Reading(is_right, num_thinking, num_layers * (len(ids) - 1), answer.num_skipped)


def compare(short: Sequence[Reading], base: Sequence[Reading]) -> dict[str, Estimate | float]:
    """What shortcuts did to the same problems: one entry a metric, shares from 0 to 1."""

    def column(readings: Sequence[Reading], name: str) -> Any:
        return np.array([float(getattr(r, name)) for r in readings])

    right = column(short, "is_right"), column(base, "is_right")
    thinking = column(short, "num_thinking"), column(base, "num_thinking")
    return {
        "thinking steps saved": mean_saving(*thinking),
        "accuracy": float(right[0].mean()),
        "accuracy of explicit": float(right[1].mean()),
        "accuracy difference": mean_difference(*right),
        "McNemar p": mcnemar(right[0] > 0, right[1] > 0),
        "layers skipped": skipped_share(short),
    }


def skipped_share(readings: Sequence[Reading]) -> float:
    """Layer executions skipped over all of them, after the prompts."""
    return sum(r.num_skipped for r in readings) / sum(r.num_layers for r in readings)


class Bench:
    """One engine and the problems that it is asked."""

    def __init__(self, model: Path, problems: Sequence[Problem], dtype: str) -> None:
        self.problems, self.prompts = problems, [prompt_of(p.question) for p in problems]
        self._tokenizer = load_tokenizer(model)
        self._num_layers = json.loads((model / "config.json").read_text())["num_hidden_layers"]
        self._engine = Engine("sottovoce", str(model), dtype=dtype, **OPTIONS)
        self._about = {"model": model.name, "dtype": dtype, "problems": len(problems)}

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def _ask(self, arm: str, prompts: Sequence[str]) -> tuple[float, list[Answer]]:
        sampling = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
        return self._engine.ask(prompts, {**sampling, "extra_args": parse_arm(arm).body})

    def readings(self, arm: str) -> list[Reading]:
        """Every problem answered in one arm."""
        answers = self._ask(arm, self.prompts)[1]
        pairs = zip(self.problems, answers, strict=True)
        return [read_answer(p, a, self._tokenizer, self._num_layers) for p, a in pairs]

    def quality(self, arms: Sequence[str]) -> None:
        """Steps, accuracy and layers of every arm against `explicit`."""
        base = self.readings(BASE)
        for arm in arms:
            for metric, found in compare(self.readings(arm), base).items():
                value = asdict(found) if isinstance(found, Estimate) else {"value": found}
                self._write({"arm": arm, "against": BASE}, metric, "share", value)

    def latency(self, arm: str, count: int) -> None:
        """Seconds to the end of an answer alone, over those of `explicit`, a problem a pair."""
        pairs = alternated(
            [lambda p=p: self._ask(arm, [p])[0] for p in self.prompts[:count]],
            [lambda p=p: self._ask(BASE, [p])[0] for p in self.prompts[:count]],
        )
        self._ratio({"arm": arm, "against": BASE, "concurrent": 1}, "answer latency", pairs)

    def throughput(self, arm: str, rounds: int) -> None:
        """Answers a second over those of `explicit`, as many at a time as the engine takes."""
        pairs = paired(
            lambda: self._ask(BASE, self.prompts)[0], lambda: self._ask(arm, self.prompts)[0],
            rounds, rest_s=0.0,
        )  # fmt: skip
        about = {"arm": arm, "against": BASE, "concurrent": CONCURRENT}
        self._ratio(about, "answers per second", pairs)

    def depth(self, rounds: int, steps: int) -> None:
        """Time of the student's step with the depth shortcut over that without, and over the base's."""
        arm = "shortcuts@0"
        for size in (1, CONCURRENT):
            answers = self._steps(arm, size, steps)[1]
            executions = self._num_layers * sum(len(a.token_ids) - 1 for a in answers)
            share = sum(a.num_skipped for a in answers) / executions
            for against in ("shortcuts@0+depth@off", BASE):
                pairs = paired(
                    lambda: self._steps(arm, size, steps)[0],  # noqa: B023 - called at once
                    lambda: self._steps(against, size, steps)[0],  # noqa: B023
                    rounds,
                    rest_s=0.0,
                )
                about = {"arm": arm, "against": against, "concurrent": size, "steps": steps}
                self._ratio(about, "step time", pairs, skipped_share=round(share, 4))

    def _steps(self, arm: str, size: int, steps: int) -> tuple[float, list[Answer]]:
        sampling = {"temperature": 0.0, "max_tokens": steps, "ignore_eos": True}
        extra = {"extra_args": parse_arm(arm).body}
        return self._engine.ask(self.prompts[:size], {**sampling, **extra})

    def _ratio(self, about: Mapping[str, Any], metric: str, pairs: list[Pair], **also: Any) -> None:
        values = [a / b for a, b in pairs]
        seconds = [round(median(side), 4) for side in zip(*pairs, strict=True)]
        parameters = {**self._about, **about}
        append(NAME, parameters, metric, "ratio", values, median_seconds=seconds, **also)
        _show(about, metric, percentiles(values))

    def _write(
        self, about: Mapping[str, Any], metric: str, unit: str, value: Mapping[str, float]
    ) -> None:
        parameters = {**self._about, **about}
        row = {"name": NAME, "parameters": parameters, "metric": metric, "unit": unit}
        write(NAME, {**row, **value, "n": len(self.problems)})
        _show(about, metric, value)


def _show(about: Mapping[str, Any], metric: str, value: Mapping[str, float]) -> None:
    numbers = ", ".join(f"{k} {v:.3f}" for k, v in value.items())
    print(f"{metric:<22} {', '.join(f'{k}={v}' for k, v in about.items()):<60} {numbers}")


def _cell(row: Mapping[str, Any]) -> str:
    is_share = row["unit"] == "share" and row["metric"] != "McNemar p"
    names = ("value", "low", "high") if "value" in row else ("p50", "p20", "p80")
    numbers = [row[name] * (100 if is_share else 1) for name in names if name in row]
    texts = [f"{x:.1f} %" if is_share else f"{x:.3f}" for x in numbers]
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of the latest row of every model, metric, arm, its other side and load."""
    latest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        p = row["parameters"]
        key = row["metric"], p["model"], p["arm"], p["against"], p.get("concurrent")
        latest[key] = row
    lines = ["| metric | model | arm | against | concurrent | value | n |", "|---" * 7 + "|"]
    for (metric, model, arm, against, size), row in sorted(latest.items(), key=lambda x: str(x[0])):
        cells = [metric, model, f"`{arm}`", f"`{against}`", str(size or ""), _cell(row), row["n"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shortcuts", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/tiny-reasoner"))
    parser.add_argument("--arm", nargs="+", default=["shortcuts", "shortcuts@2", "shortcuts@0"],
                        help="the first is timed; all are scored")  # fmt: skip
    parser.add_argument("--per-family", type=int, default=32, help="held-out problems of each")
    parser.add_argument("--alone", type=int, default=64, help="problems asked one at a time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=128, help="tokens of a run that is timed")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="float32")
    parser.add_argument("--table", action="store_true", help="print the table of all rows instead")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, or print what was measured."""
    args = _parser().parse_args(argv)
    if args.table:
        lines = (RESULTS / f"{NAME}.jsonl").read_text().splitlines()
        print(table([json.loads(line) for line in lines]))
        return
    started = time.monotonic()
    bench = Bench(args.model, validation_problems(args.per_family, "test"), args.dtype)
    bench.quality(args.arm)
    bench.latency(args.arm[0], args.alone)
    bench.throughput(args.arm[0], args.rounds)
    bench.depth(args.rounds, args.steps)
    bench.close()
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
