"""Every Prometheus metric of the server: its name, its labels, and what it counts.

Several API server processes share one directory of values, in which counters and histograms add up;
each gauge says below how its values do. Labels come from fixed sets, and every series is there from
the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from sottovoce_router import CAUSE_NAMES, MODES, POLICIES
from sottovoce_router.latent.manifest import METHODS

from .errors import CODES, OTHER_CODE
from .savings import CONTROL, TREATMENT, Saving, Sums

OUTCOMES = ("ok", "refused", "failed", "cancelled")
ARMS = (CONTROL, TREATMENT)
NO_ARM = NO_POLICY = "none"
SHORTCUTS = "shortcuts"  # the policy of requests that have them, in either of their modes
STEP_KINDS = ("soft", "discrete", "forced", "latent")
CLOSE_REASONS = tuple(CAUSE_NAMES.values())
_LENGTHS = (0, *(2**k for k in range(4, 18)))  # tokens
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
_WINDOW = "sottovoce_saving_window_"
# In the order of the fields of `Sums`.
_WINDOW_UNITS = {
    "requests": "Requests in the saving's window.",
    "tokens": "Reasoning tokens of the requests in the window.",
    "squared_tokens": "The square of each request's reasoning tokens, added up over the window.",
}


def observe_all(histogram: Any, values: NDArray[np.float64]) -> None:
    """As `histogram.observe` of every value, with one addition a bucket.

    It reads private names of prometheus_client, which has no call for many values at once.
    """
    of = np.searchsorted(histogram._upper_bounds, values)
    counts = np.bincount(of, minlength=len(histogram._buckets))
    for bucket, count in zip(histogram._buckets, counts.tolist(), strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(float(values.sum()))


def _mode_policies() -> list[tuple[str, str]]:
    """An explicit request has no policy, traced or not."""
    routed = [(spec.mode, name) for name, spec in POLICIES.items() if spec.mode != "explicit"]
    return [
        ("explicit", NO_POLICY),
        *((mode, SHORTCUTS) for mode in ("explicit", "latent")),
        *(("latent", method) for method in METHODS),
        *routed,
    ]


class Metrics:
    """The server's metrics in a registry."""

    def __init__(self, registry: CollectorRegistry, directory: str | None = None) -> None:
        """Register them.

        Args:
            directory: what the API server processes share (PROMETHEUS_MULTIPROC_DIR); None where
                there is one process.
        """
        self._registry, self._directory = registry, directory
        self._define_requests()
        self._define_work()
        self._define_ledger()
        self._define_saving()

    def _counter(self, name: str, says: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(f"sottovoce_{name}", says, tuple(labels), registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _histogram(
        self, name: str, says: str, buckets: tuple[float, ...], **labels: Iterable[str]
    ) -> Histogram:
        histogram = Histogram(
            f"sottovoce_{name}", says, tuple(labels), registry=self._registry, buckets=buckets
        )
        for values in product(*labels.values()):
            histogram.labels(*values)
        return histogram

    def _define_requests(self) -> None:
        labels = ("mode", "policy", "outcome")
        says = (
            "Requests with a valid mode that ended, by effective mode and policy, and by outcome."
        )
        self._requests = Counter("sottovoce_requests", says, labels, registry=self._registry)
        for (mode, policy), outcome in product(_mode_policies(), OUTCOMES):
            self._requests.labels(mode, policy, outcome)
        says = "Requests refused, by the error code in their answer."
        self._rejections = self._counter("rejections", says, reason=[*sorted(CODES), OTHER_CODE])

    def _define_work(self) -> None:
        says = "Thinking steps of soft, latent or traced requests, by kind."
        self._steps = self._counter("steps", says, kind=STEP_KINDS)
        self._switches = self._counter("switches", "Changes between soft and discrete steps.")
        says = "Ends of thinking forced in soft or traced requests, by what forced them."
        self._closes = self._counter("forced_closes", says, reason=CLOSE_REASONS)
        says = "Soft or traced requests that came back from a preemption and read their ledger."
        self._replays = self._counter("replays", says)
        says = "Layers of generated positions, run or skipped."
        self._layers = self._counter("layer_executions", says, kind=("run", "skipped"))
        says = "Reasoning tokens of a finished choice, by arm of its request."
        arms = (*ARMS, NO_ARM)
        self._lengths = self._histogram("reasoning_length_tokens", says, _LENGTHS, arm=arms)
        says = "Largest probability (p_max) at soft and discrete steps, by effective mode."
        self._confidences = self._histogram("confidence_ratio", says, _CONFIDENCES, mode=MODES)

    def _define_ledger(self) -> None:
        says = "Bytes of the ledger that live requests hold, on each rank of a sharded engine."
        self._ledger = Gauge(
            "sottovoce_ledger_bytes", says, registry=self._registry, multiprocess_mode="livesum"
        )
        says = "Bytes of the ledger, on each rank of a sharded engine."
        self._ledger_limit = Gauge(
            "sottovoce_ledger_limit_bytes", says, registry=self._registry, multiprocess_mode="max"
        )

    def _define_saving(self) -> None:
        # Each process has a window of its own; they are one window where their sums are added.
        self._window = [
            Gauge(
                _WINDOW + unit, says, ["arm"], registry=self._registry, multiprocess_mode="livesum"
            )
            for unit, says in _WINDOW_UNITS.items()
        ]
        # Whoever is scraped estimates from all windows: the newest value is the one.
        told = {
            "saving_ratio": "Reasoning tokens saved against the control arm; NaN without evidence.",
            "saving_low_ratio": "Lower bound of the saving's 95% interval; NaN while unknown.",
            "saving_high_ratio": "Upper bound of the saving's 95% interval; NaN while unknown.",
            "saving_has_evidence": "1 where the saving's interval leaves out zero.",
        }
        self._saving = {
            name: Gauge(
                f"sottovoce_{name}", says, registry=self._registry, multiprocess_mode="mostrecent"
            )
            for name, says in told.items()
        }
        self.show_window({arm: Sums() for arm in ARMS})
        self.show_saving(Saving())

    def count_request(self, mode: str, policy: str | None, outcome: str) -> None:
        """One request that ended; its policy is None in explicit mode without shortcuts."""
        self._requests.labels(mode, policy or NO_POLICY, outcome).inc()

    def count_rejection(self, code: str) -> None:
        """One refusal; codes that are none of ours count as one."""
        self._rejections.labels(code if code in CODES else OTHER_CODE).inc()

    def count_work(
        self, usage: Mapping[str, int], closes: Mapping[str, int], num_replays: int = 0
    ) -> None:
        """A request's usage details (see `Tally.usage`), its forced ends by reason, its replays."""
        self._replays.inc(num_replays)
        for kind in STEP_KINDS:
            self._steps.labels(kind).inc(usage.get(f"{kind}_steps", 0))
        self._switches.inc(usage.get("switches", 0))
        for kind in ("run", "skipped"):
            self._layers.labels(kind).inc(usage.get(f"layers_{kind}", 0))
        for reason, count in closes.items():
            self._closes.labels(reason).inc(count)

    def add_ledger_bytes(self, num_bytes: int) -> None:
        """A request took so many bytes of the ledger, or gave them back."""
        self._ledger.inc(num_bytes)

    def show_ledger_limit(self, num_bytes: int) -> None:
        """How large the ledger is."""
        self._ledger_limit.set(num_bytes)

    def observe_confidences(self, mode: str, confidences: NDArray[np.float64]) -> None:
        """p_max of a request's steps, which may be tens of thousands."""
        observe_all(self._confidences.labels(mode), confidences)

    def observe_lengths(self, arm: str | None, lengths: Iterable[int]) -> None:
        """Reasoning tokens of a request's finished choices."""
        histogram = self._lengths.labels(arm or NO_ARM)
        for length in lengths:
            histogram.observe(length)

    def show_window(self, sums: Mapping[str, Sums]) -> None:
        """This process's window."""
        for arm in ARMS:
            values = (sums[arm].num, sums[arm].total, sums[arm].squares)
            for gauge, value in zip(self._window, values, strict=True):
                gauge.labels(arm).set(float(value))

    def read_window(self) -> dict[str, Sums]:
        """The windows of all processes as one."""
        found = {
            (sample.name, sample.labels.get("arm")): sample.value
            for family in self._families()
            for sample in family.samples
            if sample.name.startswith(_WINDOW)
        }
        return {arm: Sums(*(found[_WINDOW + u, arm] for u in _WINDOW_UNITS)) for arm in ARMS}

    def _families(self) -> Iterable[Any]:
        if self._directory is None:
            return [family for gauge in self._window for family in gauge.collect()]
        collector: Any = MultiProcessCollector  # it has no types
        families: Iterable[Any] = collector(None, self._directory).collect()
        return families

    def show_saving(self, saving: Saving) -> None:
        """The estimate over all processes."""
        has_evidence = saving.has_evidence
        shown = {
            "saving_ratio": saving.estimate if has_evidence else float("nan"),
            "saving_low_ratio": saving.low,
            "saving_high_ratio": saving.high,
            "saving_has_evidence": float(has_evidence),
        }
        for name, value in shown.items():
            self._saving[name].set(value)
