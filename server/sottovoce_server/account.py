"""A request's end, entered into the metrics and into the control arm's window."""

from __future__ import annotations

from .metrics import SHORTCUTS, Metrics
from .render import effective_params
from .savings import Window, estimate
from .tally import Tally
from .translate import Translation


class Account:
    """One process's books."""

    def __init__(self, metrics: Metrics, window: Window | None = None) -> None:
        self._metrics = metrics
        self._window = window or Window()

    def refuse(self, code: str) -> None:
        """Enter a refused request."""
        self._metrics.count_rejection(code)

    def hold(self, num_bytes: int) -> None:
        """Enter that a request took so many bytes of the ledger, or gave them back."""
        self._metrics.add_ledger_bytes(num_bytes)

    def close(self, translation: Translation, tally: Tally, outcome: str) -> None:
        """Enter a request that ended, with whatever it did until then."""
        params = effective_params(translation.params, tally)
        policy = params.method if params.shortcuts is None else SHORTCUTS
        self._metrics.count_request(params.mode, policy, outcome)
        tally.let_go()
        self._metrics.count_work(tally.usage(), tally.forced_closes(), tally.num_replays())
        self._metrics.observe_confidences(params.mode, tally.confidences())
        lengths = tally.finished_lengths()
        self._metrics.observe_lengths(translation.arm, lengths)
        # A request that ended early, or goes on in the background, has no length to compare.
        is_whole = outcome == "ok" and len(lengths) == translation.num_choices
        if translation.arm is not None and is_whole:
            self._window.add(translation.arm, sum(lengths))
            self._metrics.show_window(self._window.sums)

    def estimate_saving(self) -> None:
        """Bring the saving up to date, over the windows of all processes."""
        self._metrics.show_saving(estimate(self._metrics.read_window()))
