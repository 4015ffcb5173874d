"""An engine's process: what it answers, and that none outlives a failure or a hang."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from benchmarks import engine as engines
from benchmarks.engine import Answer, Engine, Kind

# Answers a batch by its prompts; "hang" says nothing, "stop" ends, and a child lives on beside it.
PROGRAM = """
import subprocess, sys, time
from benchmarks.engine import answer_jobs
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def run(prompts, sampling):
    if prompts[0] == "hang":
        time.sleep(600)
    if prompts[0] == "stop":
        child.kill()
        sys.exit(3)
    ends = [0.5 * s["max_tokens"] for s in sampling]
    return {"seconds": max(ends), "answers": [[[1], 2]] * len(ends), "latencies": ends}
try:
    answer_jobs(run)
finally:
    child.kill()
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripted_engine.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(engines.__file__).parent.parent}")
    monkeypatch.setitem(engines.KINDS, "scripted", Kind("scripted_engine"))


def family(engine: Engine) -> list[psutil.Process]:
    process = psutil.Process(engine.pid)
    return [process, *process.children(recursive=True)]


def is_gone(process: psutil.Process) -> bool:
    try:
        process.wait(10)
    except psutil.TimeoutExpired:
        return False
    return True


def test_a_batch_is_answered_with_the_end_of_every_request() -> None:
    engine = Engine("scripted", "m")
    done = engine.measure("x", [2, 6, 4], {"temperature": 0.0})
    assert (done.seconds, done.latencies, done.num_preemptions) == (3.0, [1.0, 3.0, 2.0], 0)
    assert done.answers == [Answer([1], 2)] * 3
    processes = family(engine)
    engine.close()
    assert len(processes) == 2
    assert all(map(is_gone, processes))


def test_an_engine_that_hangs_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_CLOSE_S", 0.2)
    engine = Engine("scripted", "m", timeout_s=5.0)
    processes = family(engine)
    engine._timeout_s = 0.2
    with pytest.raises(TimeoutError, match=r"scripted engine said nothing for 0\.2 s"):
        engine.run("hang", [1], {})
    engine.close()
    assert all(map(is_gone, processes))


def test_an_engine_that_stops_says_so() -> None:
    engine = Engine("scripted", "m")
    with pytest.raises(RuntimeError, match="scripted engine stopped"):
        engine.run("stop", [1], {})
    engine.close()


def test_an_engine_that_does_not_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Popen(engines.subprocess.Popen):  # type: ignore[name-defined,misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self.pid)

    monkeypatch.setattr(engines.subprocess, "Popen", Popen)
    monkeypatch.setattr(engines, "_CLOSE_S", 0.1)
    with pytest.raises(TimeoutError):
        Engine("scripted", "m", timeout_s=0.001)
    assert not psutil.pid_exists(started[0])


class _Llm:
    """Stands in for vLLM: the later request ends first."""

    steps: ClassVar[list[list[Any]]] = []

    def __init__(self) -> None:
        self.llm_engine = self
        self.left = list(self.steps)

    def has_unfinished_requests(self) -> bool:
        return bool(self.left)

    def step(self) -> list[Any]:
        return self.left.pop(0)


def output(request_id: str, finished: bool = True) -> Any:
    return type("Output", (), {"request_id": request_id, "finished": finished})


def test_outputs_are_in_order_and_their_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, later = output("9"), output("10")
    monkeypatch.setattr(_Llm, "steps", [[output("9", False)], [later], [], [first]])
    clock = iter([12.0, 15.0])
    monkeypatch.setattr(engines.time, "perf_counter", lambda: next(clock))
    assert engines._finish(_Llm(), 10.0) == ([first, later], [2.0, 5.0])


def test_a_traced_soft_step_tells_its_terms() -> None:
    step = type("Step", (), {"num_skipped": 1, "route": "soft", "alternatives": ((1, 0.5),) * 3})
    plain = type("Step", (), {"num_skipped": 0, "route": "discrete", "alternatives": ((1, 1.0),)})
    choice = type("Choice", (), {"token_ids": (4, 5), "routing": [step, plain]})
    assert json.loads(json.dumps(engines._answer(choice))) == [[4, 5], 1, [3]]
