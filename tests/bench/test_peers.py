"""The peers: the same load for each, all that is reported, and no engine left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.engine import Done
from benchmarks.peers import __main__ as peers
from benchmarks.peers.memory import Peak

from bench.fake_engine import FakeEngine, install


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is started."""
    install(monkeypatch, peers)
    monkeypatch.setattr(peers, "smollm2_gguf", lambda: Path("smollm2_gguf"))
    monkeypatch.setattr(peers, "REST_S", 0.0)


SIZES = ["--rounds", "1", "--requests", "3", "--steps", "16"]


def test_every_peer_gets_the_same_load(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(peers, "report", lambda _, about, *row: rows.append((about, *row)))
    monkeypatch.setattr(peers, "append", lambda _, about, *row, **__: rows.append((about, *row)))
    peers.main([*peers.PEERS, *SIZES])
    assert [(kind, model) for kind, model, _ in FakeEngine.started] == [
        ("sottovoce", "smollm2_path"), ("v1", "smollm2_path"), ("mrv2", "smollm2_path"),
        ("llama.cpp", "smollm2_gguf"), ("http", "smollm2_path"), ("http", "smollm2_gguf"),
        *[("transformers", "smollm2_path")] * 6,
    ]  # fmt: skip
    assert not FakeEngine.running
    sides = {
        side: [a[1:3] for a in FakeEngine.asked if a[0] == side] for side in ("ours", "theirs")
    }
    assert sorted(sides["ours"]) == sorted(sides["theirs"])
    by = {metric: [row for row in rows if row[1] == metric] for _, metric, *_ in rows}
    assert list(by) == ["throughput over it", "latency p50 over its", "latency p95 over its",
                        "peak memory"]  # fmt: skip
    assert all(len(found) == 10 * 2 for found in by.values()), "peers, loads"
    for _, _, pairs in by["throughput over it"]:
        assert all(theirs > ours > 1 for theirs, ours in pairs)
    for _, _, pairs in by["latency p50 over its"] + by["latency p95 over its"]:
        assert all(1 < ours < theirs for ours, theirs in pairs)
    assert all(mib > 1 for *_, (mib,) in by["peak memory"])
    assert len({json.dumps(about) for about, *_ in rows}) == 10 * 2


def test_loads_are_equal_or_spread() -> None:
    equal, spread = peers.loads(32, 64).values()
    assert equal == [64] * 32
    assert min(spread) >= 4
    assert 64 < max(spread) <= 256


def test_a_failure_leaves_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "measure", lambda *_: Done(1.0, latencies=[1.0]))
    with pytest.raises(RuntimeError, match="1 requests of 3 ended"):
        peers.main(["v1", *SIZES])
    assert len(FakeEngine.started) == 2
    assert not FakeEngine.running


_FAMILY = """
import os, time
def held(mib):
    x = bytearray(mib << 20)
    x[::4096] = b'1' * (len(x) // 4096)
    return x
shared = held(64)
if os.fork() == 0:
    own = held(32)
time.sleep(1.2)
"""


def test_the_peak_is_that_of_the_whole_family() -> None:
    """A child that holds 32 MiB of its own is seen, and the 64 that it shares are counted once."""
    command = [sys.executable, "-c", _FAMILY]
    with subprocess.Popen(command) as parent, Peak(parent.pid) as peak:
        parent.wait()
    assert 96 < peak.mib < 140
