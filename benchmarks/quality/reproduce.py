"""ThinkRouter's own setting (2602.11683), one row of its table a command, on a GPU: not run here.

`python -m benchmarks.quality.reproduce qwen3-1.7b aime24 --data DIR` serves the model, asks every
problem in every arm with the published sampling settings, and prints the table.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from sottovoce_server.demo import running_server

from .arms import THRESHOLDS
from .report import write_report
from .study import Settings, Study
from .task import TaskError

# The paper chooses one threshold on ten held-out samples; all are reported here instead.
ARMS = (
    "explicit", "latent", *(f"routed@{t}" for t in THRESHOLDS),
    *(f"random@routed@{t}" for t in (0.5, 0.7, 0.9)), "adaptive_greedy@0.7",
)  # fmt: skip
_LATENCY_TARGET_S = 600.0
_START_TIMEOUT_S = 4 * 3600.0  # the first start downloads the weights


@dataclass(frozen=True)
class Model:
    """A model's name on the hub, and the flags that it is served with."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """A file in the data folder, its format, and how many tokens and samples a problem gets."""

    spec: str
    max_tokens: int = 32_768
    samples: int = 16


_QWEN = ("--reasoning-parser", "qwen3", "--max-model-len", "40960")
MODELS: dict[str, Model] = {
    "qwen3-1.7b": Model("Qwen/Qwen3-1.7B", _QWEN),
    "qwen3-8b": Model("Qwen/Qwen3-8B", _QWEN),
    "qwen3-32b": Model("Qwen/Qwen3-32B", (*_QWEN, "--tensor-parallel-size", "2")),
    "gpt-oss-20b": Model(
        "openai/gpt-oss-20b",
        ("--reasoning-start", "<|channel|>analysis<|message|>", "--reasoning-end", "<|end|>"),
    ),
}
BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark("aime:{data}/aime24.jsonl"),
    "aime25": Benchmark("aime:{data}/aime25.jsonl"),
    "gpqa-diamond": Benchmark("gpqa:{data}/gpqa_diamond.csv", samples=4),
    "humaneval": Benchmark("humaneval:{data}/HumanEval.jsonl.gz", samples=4),
    "mbpp": Benchmark("mbpp:{data}/sanitized-mbpp.json", samples=4),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.reproduce")
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument(
        "--data", type=Path, default=Path(".cache/data"), help="folder of the files"
    )
    parser.add_argument("--out", type=Path, default=Path(".cache/reproduce"))
    parser.add_argument("--arm", nargs="+", default=list(ARMS))
    parser.add_argument("--concurrency", type=int, default=64)
    return parser


def study_of(args: argparse.Namespace, url: str) -> Study:
    """The study of one model on one benchmark; it fails before a server starts without its file."""
    benchmark = BENCHMARKS[args.benchmark]
    settings = Settings(
        url=url, model=MODELS[args.model].name, tasks=(benchmark.spec.format(data=args.data),),
        count=10_000, split="test", max_tokens=benchmark.max_tokens, concurrency=args.concurrency,
    )  # fmt: skip
    return Study(args.out / f"{args.model}--{args.benchmark}", settings)


def main(argv: list[str] | None = None) -> None:
    """Serve, ask, report; a second call asks only what is missing."""
    args = _parser().parse_args(argv)
    model, benchmark = MODELS[args.model], BENCHMARKS[args.benchmark]
    try:
        study_of(args, "")
    except (TaskError, ValueError) as error:
        sys.exit(f"reproduce: {error}")
    flags = (*model.flags, "--max-num-seqs", str(args.concurrency))
    with running_server(model.name, *flags, timeout_s=_START_TIMEOUT_S) as base:
        study = study_of(args, f"{base}/v1")
        for arm in args.arm:
            asyncio.run(study.run(arm, "t0.6", benchmark.samples, "none"))
        print(write_report(study, _LATENCY_TARGET_S, publish=False))


if __name__ == "__main__":
    main()
