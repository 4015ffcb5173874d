"""Two replicas under load: one is killed, later one is drained, and every request is accounted for.

`python -m deploy.trial router` puts vllm-router in front of two servers, `python -m deploy.trial ray`
runs deploy/ray_serve.py. VLLM_ROUTER and RAY_PYTHON name the two programs where they live in another
environment than this one. Prints a JSON line for each phase; exits 1 where a request was lost that was
not in flight in the killed replica. One in flight that was told to come again is not among the lost,
though the killed replica may have accepted it: see `refused_in_flight`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from .fleets import Fleet, RayFleet, RouterFleet

NUM_CLIENTS = 6
FLEETS: dict[str, type[Fleet]] = {"router": RouterFleet, "ray": RayFleet}
PHASES = ("kill", "drain")
REFUSED = (429, 503)  # the client is told to come again
QUESTION = "Tom has 3 dogs and 2 birds. How many legs do they have?"


@dataclass(frozen=True)
class Asked:
    """A request that ended, and how."""

    begun: float
    ended: float
    outcome: str  # ok, refused, or what was lost


async def _ask(client: httpx.AsyncClient, is_streamed: bool) -> str:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": "tiny-reasoner", "messages": messages, "max_tokens": 64, "ignore_eos": True}
    try:
        path = "/v1/chat/completions"
        async with client.stream("POST", path, json={**body, "stream": is_streamed}) as answer:
            text = (await answer.aread()).decode()
    except httpx.TransportError as error:
        return type(error).__name__
    if answer.status_code in REFUSED:
        return "refused"
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    is_whole = "data: [DONE]" in text if is_streamed else '"usage"' in text
    return "ok" if is_whole else "cut off"


async def _client(base: str, number: int, is_over: asyncio.Event, log: list[Asked]) -> None:
    async with httpx.AsyncClient(base_url=base, timeout=120) as client:
        while not is_over.is_set():
            begun = time.monotonic()
            outcome = await _ask(client, is_streamed=number % 2 == 0)
            log.append(Asked(begun, time.monotonic(), outcome))
            if outcome != "ok":
                await asyncio.sleep(0.2)


async def _phase(
    base: str, event: Callable[[], object], before_s: float, after_s: float
) -> tuple[list[Asked], float]:
    """Load, the event in the midst of it, and when it began."""
    log: list[Asked] = []
    is_over = asyncio.Event()
    clients = [asyncio.create_task(_client(base, i, is_over, log)) for i in range(NUM_CLIENTS)]
    await asyncio.sleep(before_s)
    moment = time.monotonic()
    await asyncio.to_thread(event)
    await asyncio.sleep(after_s)
    is_over.set()
    await asyncio.gather(*clients)
    return log, moment


def _count(name: str, log: list[Asked], moment: float) -> dict[str, Any]:
    lost = [asked for asked in log if asked.outcome not in ("ok", "refused")]
    after = [asked for asked in log if asked.begun > moment]
    in_flight = [asked for asked in log if asked.begun <= moment < asked.ended]
    refused = sum(asked.outcome == "refused" for asked in log)
    # The server that was killed may have accepted them, and another process answered in its place.
    refused_in_flight = sum(asked.outcome == "refused" for asked in in_flight)
    return {
        "phase": name,
        "ok": sum(asked.outcome == "ok" for asked in log),
        "ok_begun_after": sum(asked.outcome == "ok" for asked in after),
        "refused": refused - refused_in_flight,
        "in_flight_at_event": len(in_flight),
        "refused_in_flight": refused_in_flight,
        "lost_in_flight": sum(asked.begun <= moment for asked in lost),
        "lost_later": sum(asked.begun > moment for asked in lost),
        "lost_as": dict(Counter(asked.outcome for asked in lost)),
    }


def main() -> None:
    """Run the trial."""
    parser = argparse.ArgumentParser(prog="python -m deploy.trial", description=__doc__)
    parser.add_argument("fleet", choices=FLEETS)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--before-s", type=float, default=10)
    parser.add_argument("--after-s", type=float, default=20)
    args = parser.parse_args()
    fleet = FLEETS[args.fleet](Path(tempfile.mkdtemp(prefix="trial-")))
    is_lossless = True
    try:
        fleet.start()
        for name in args.phases:
            event = fleet.kill_one if name == "kill" else fleet.drain_one
            found = _count(
                name, *asyncio.run(_phase(fleet.base, event, args.before_s, args.after_s))
            )
            lost = found["lost_later"] + (found["lost_in_flight"] if name == "drain" else 0)
            is_lossless &= lost == 0 and found["ok_begun_after"] > 0
            print(json.dumps({"fleet": args.fleet, **found}), flush=True)
            if name == "kill" and "drain" in args.phases:
                fleet.restore()
    finally:
        fleet.stop()
    sys.exit(0 if is_lossless else 1)


if __name__ == "__main__":
    main()
