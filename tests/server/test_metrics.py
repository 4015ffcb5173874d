"""Names and labels of the metrics, and what several processes make of them together."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from sottovoce_router import CAUSE_NAMES, MODES, POLICIES
from sottovoce_router.latent.manifest import METHODS
from sottovoce_server import errors, metrics
from sottovoce_server.metrics import Metrics
from sottovoce_server.savings import CONTROL, TREATMENT, Saving, Sums

README = Path(metrics.__file__).parents[1] / "README.md"
LABELS: dict[str, set[str]] = {
    "mode": set(MODES),
    "policy": {*POLICIES, *METHODS, "none", "shortcuts"},
    "outcome": set(metrics.OUTCOMES),
    "arm": {"control", "treatment", "none"},
    "kind": {"soft", "discrete", "forced", "latent", "run", "skipped"},
    "reason": {
        *errors.CODES,
        "other",
        "budget",
        "cold_stop",
        "switch_budget",
        "min_answer",
    },
}
# Two API servers of 150 requests an arm each, and one that is scraped and had none.
_SERVERS = """
import os
import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sottovoce_server.metrics import Metrics
from sottovoce_server.savings import Window, estimate

folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]

def serve(num):
    metrics, window = Metrics(CollectorRegistry(), folder), Window()
    for _ in range(num):
        for arm, length in (("control", 150), ("treatment", 100)):
            window.add(arm, length)
            window.add(arm, length + 100)
    metrics.show_window(window.sums)
    metrics.show_saving(estimate(metrics.read_window() if num == 0 else window.sums))
    metrics.count_request("latent", "soft", "ok")
    metrics.observe_lengths("control", [20])
    metrics.observe_confidences("latent", np.array([0.25, 0.25, 0.95]))
    metrics.count_work({}, {"min_answer": 1}, 2)
    metrics.add_ledger_bytes(7)
    metrics.show_ledger_limit(100)

for _ in range(2):
    if os.fork() == 0:
        serve(75)
        os._exit(0)
for _ in range(2):
    assert os.wait()[1] == 0
serve(0)
registry = CollectorRegistry()
MultiProcessCollector(registry, folder)
print("RESULT" + generate_latest(registry).decode())
"""


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Names and labels of everything that a scrape shows."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples}


def test_names_and_labels(registry: CollectorRegistry) -> None:
    """All of ours, and labels from fixed sets only."""
    Metrics(registry)
    found = series(registry)
    assert {name for name, _ in found if not name.startswith("sottovoce_")} == set()
    labels = {pair for _, pairs in found for pair in pairs if pair[0] != "le"}
    assert {(key, value) for key, value in labels if value not in LABELS[key]} == set()


def test_every_series_is_there_from_the_start(registry: CollectorRegistry) -> None:
    """No request adds one, whatever it holds."""
    shown = Metrics(registry)
    before = series(registry)
    for spec in POLICIES.values():
        policy = None if spec.mode == "explicit" else spec.name
        for outcome in metrics.OUTCOMES:
            shown.count_request(spec.mode, policy, outcome)
    for code in (*errors.CODES, "a code of another middleware"):
        shown.count_rejection(code)
    closes = dict.fromkeys(CAUSE_NAMES.values(), 1)
    shown.count_work({"soft_steps": 1, "layers_run": 2, "other": 1}, closes, 1)
    shown.add_ledger_bytes(10)
    shown.show_ledger_limit(100)
    for mode in MODES:
        shown.observe_confidences(mode, np.array([0.0, 0.5, 1.0]))
    for arm in (CONTROL, TREATMENT, None):
        shown.observe_lengths(arm, [0, 10**6])
    assert series(registry) == before
    reasons = {"reason": "other"}
    assert registry.get_sample_value("sottovoce_rejections_total", reasons) == 1


def test_every_metric_is_documented(registry: CollectorRegistry) -> None:
    """A row in the README, by the name that a dashboard asks for."""
    Metrics(registry)
    text = README.read_text()
    families = [(f.name, "_total" if f.type == "counter" else "") for f in registry.collect()]
    assert len(families) == 18
    assert [name + end for name, end in families if f"`{name}{end}`" not in text] == []


@pytest.mark.parametrize(
    ("saving", "estimate", "has_evidence"),
    [
        (Saving(), math.nan, 0),
        (Saving(0.1, -0.1, 0.3), math.nan, 0),
        (Saving(0.2, 0.1, 0.3), 0.2, 1),
        (Saving(-0.2, -0.3, -0.1), -0.2, 1),
    ],
)
def test_no_estimate_without_evidence(
    registry: CollectorRegistry, saving: Saving, estimate: float, has_evidence: int
) -> None:
    Metrics(registry).show_saving(saving)
    names = ("saving_ratio", "saving_low_ratio", "saving_high_ratio", "saving_has_evidence")
    shown = [registry.get_sample_value(f"sottovoce_{name}") for name in names]
    expected = [estimate, saving.low, saving.high, has_evidence]
    assert shown == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("values", [[], [0.5], [0.0, 0.1, 0.1000001, 0.3, 0.95, 1.0], None])
def test_many_values_are_what_one_by_one_are(
    registry: CollectorRegistry, values: list[float] | None
) -> None:
    """Bucket for bucket, their bounds included."""
    if values is None:
        values = np.random.default_rng(1).random(1000).tolist()
    names = ("bulk", "single")
    bulk, single = (
        Histogram(name, "", registry=registry, buckets=metrics._CONFIDENCES) for name in names
    )
    for _ in range(2):
        metrics.observe_all(bulk, np.array(values))
    for value in [*values, *values]:
        single.observe(value)
    found: dict[str, dict[tuple[str, str], float]] = {name: {} for name in names}
    for family in registry.collect():
        for sample in family.samples:
            kind, le = sample.name.removeprefix(family.name), sample.labels.get("le", "")
            if kind != "_created":
                found[family.name][kind, le] = sample.value
    assert found["bulk"] == pytest.approx(found["single"])


def test_a_long_trace_is_entered_quickly(registry: CollectorRegistry) -> None:
    """On the event loop, where every other request waits: 32,768 observations took 56 ms."""
    shown = Metrics(registry)
    values = np.random.default_rng(1).random(32_768)
    took = []
    for _ in range(5):
        start = time.thread_time()
        shown.observe_confidences("latent", values)
        took.append(time.thread_time() - start)
    start = time.thread_time()
    for value in values.tolist():
        shown._confidences.labels("latent").observe(value)
    assert min(took) < (time.thread_time() - start) / 5


def test_window_reads_back(registry: CollectorRegistry) -> None:
    shown = Metrics(registry)
    sums = {CONTROL: Sums(1.0, 2.0, 4.0), TREATMENT: Sums(2.0, 3.0, 5.0)}
    shown.show_window(sums)
    assert shown.read_window() == sums


def test_several_processes(tmp_path: Path) -> None:
    """Counts add up, and the saving is one of all windows: none alone has the requests for it."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _SERVERS], env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    families = text_string_to_metric_families(done.stdout.partition("RESULT")[2])
    samples = [sample for family in families for sample in family.samples]
    found = {(s.name, *(s.labels[key] for key in sorted(s.labels))): s.value for s in samples}
    assert found["sottovoce_requests_total", "latent", "ok", "soft"] == 3
    assert found["sottovoce_reasoning_length_tokens_sum", "control"] == 60
    assert found["sottovoce_confidence_ratio_count", "latent"] == 9
    assert found["sottovoce_confidence_ratio_bucket", "0.3", "latent"] == 6
    assert found["sottovoce_forced_closes_total", "min_answer"] == 3
    assert found["sottovoce_replays_total",] == 6
    assert found["sottovoce_ledger_bytes",] == 21, "what each process's requests hold"
    assert found["sottovoce_ledger_limit_bytes",] == 100, "of an engine that they share"
    assert found["sottovoce_saving_window_requests", "control"] == 300
    assert found["sottovoce_saving_window_tokens", "treatment"] == 300 * 150
    assert found["sottovoce_saving_has_evidence",] == 1
    assert found["sottovoce_saving_ratio",] == pytest.approx(0.25)
    assert {name for name, *_ in found if not name.startswith("sottovoce_")} == set()
