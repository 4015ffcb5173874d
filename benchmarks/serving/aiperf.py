"""NVIDIA AIPerf: its command line, and its raw export as samples.

It sends each request's own body as it stands, so modes may share a load. Its times are taken as it
reports them; the answers come from the streamed chunks, which it exports.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .profiles import Load
from .workload import ROUTE, Answered, Request, Timed, answered

NAME = "aiperf"
# Its pins clash with vLLM's, so it lives in an environment of its own.
BINARY = Path(".cache/aiperf-venv/bin/aiperf")
_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


def _arrival(load: Load, num_requests: int) -> list[str]:
    if load.concurrency:
        return ["--concurrency", str(load.concurrency)]
    pattern = ["--arrival-pattern", "poisson"]
    if load.is_ramp:
        # Of random gaps, every change of the rate, ten a second, draws another and takes the lesser
        # (RequestRateStrategy._reschedule_for_rate_update), which doubles the mean rate.
        ramp = ["--request-rate-ramp-duration", str(load.ramp_s(num_requests))]
        pattern = ["--arrival-pattern", "constant", *ramp]
    elif load.burstiness != 1.0:
        pattern = ["--arrival-pattern", "gamma", "--arrival-smoothness", str(load.burstiness)]
    return ["--request-rate", str(load.rate), *pattern]


def command(
    base: str, tokenizer: Path, load: Load, requests: Sequence[Request], out: Path
) -> list[str]:
    """Write the requests' bodies into the folder `out`; returns the command that sends them."""
    bodies = out / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(r.body) + "\n" for r in requests))
    return [
        str(BINARY), "profile", "--url", base, "--endpoint-type", "chat", "--endpoint", ROUTE,
        "--model", str(requests[0].body["model"]), "--streaming", "--tokenizer", str(tokenizer),
        "--use-server-token-count", "--input-file", str(bodies), "--custom-dataset-type",
        "raw-payload", "--dataset-sampling-strategy", "sequential", "--request-count",
        str(len(requests)), *_arrival(load, len(requests)), "--random-seed", "0", "--export-level", "raw",
        "--no-gpu-telemetry", "--no-server-metrics", "--output-artifact-dir", str(out),
    ]  # fmt: skip


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def _chunks(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for message in record["responses"]:
        for packet in message.get("packets", ()):
            if packet["name"] == "data" and packet["value"] != "[DONE]":
                yield json.loads(packet["value"])


def _seconds(metrics: Mapping[str, Any], name: str) -> float | None:
    found = metrics.get(name)
    return None if found is None else float(found["value"]) * _S[found["unit"]]


def _sample(raw: Mapping[str, Any], metrics: Mapping[str, Any]) -> Timed:
    """One request, of its raw record and what the tool measured of it."""
    parts: list[str] = []
    usage: dict[str, Any] = {}
    finish: str | None = None
    for chunk in _chunks(raw):
        for choice in chunk.get("choices", ()):
            parts.append(choice["delta"].get("content") or "")
            finish = choice.get("finish_reason") or finish
        usage = chunk.get("usage") or usage
    details = usage.get("completion_tokens_details") or {}
    about, error = raw["metadata"], raw.get("error")
    start, end = about["request_start_ns"], about["request_end_ns"]
    return Timed(
        task="", problem="", sample=0, text="".join(parts), thinking=details.get("reasoning_tokens"),
        soft=details.get("soft_steps"), switches=details.get("switches"),
        tokens=usage.get("completion_tokens", 0),
        first_answer=_seconds(metrics, "time_to_first_output_token"),
        seconds=_seconds(metrics, "request_latency") or (end - start) * 1e-9,
        started=start * 1e-9, finish=finish,
        error=f"{error.get('type')}: {error['message']}" if error else None,
        latent=details.get("latent_steps"),
        ttft=_seconds(metrics, "time_to_first_token"),
        tpot=_seconds(metrics, "inter_token_latency"),
    )  # fmt: skip


def read(out: Path, requests: Sequence[Request]) -> tuple[list[Answered], str]:
    """What a run left in its folder, and the tool's version."""
    measured = {
        line["metadata"]["x_request_id"]: line.get("metrics") or {}
        for line in _lines(out / "profile_export.jsonl")
    }
    places: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        places[json.dumps(request.body, sort_keys=True)].append(i)
    samples: dict[int, Timed] = {}
    for raw in _lines(out / "profile_export_raw.jsonl"):
        place = places.get(json.dumps(raw.get("payload"), sort_keys=True))
        if place:
            metrics = measured.get(raw["metadata"]["x_request_id"], {})
            samples[place.pop()] = _sample(raw, metrics)
    summary = json.loads((out / "profile_export_aiperf.json").read_text())
    return answered(requests, samples), str(summary["aiperf_version"])
