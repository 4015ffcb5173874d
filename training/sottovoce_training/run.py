"""A training run in a directory: learning rate, optimizers, checkpoint, log, progress, resuming."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from tqdm import tqdm

from .reasoner.muon import Muon

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Schedule:
    """How long a run is, and how fast it learns."""

    num_steps: int
    learning_rate: float = 2e-3
    warmup: int = 200
    decay_share: float = 0.7  # of the steps, at the end, over which the rate falls to zero
    weight_decay: float = 0.05
    eval_every: int = 500

    def rate(self, step: int) -> float:
        """The learning rate of a step: warm-up, plateau, linear decay."""
        left = (self.num_steps - step) / max(1.0, self.decay_share * self.num_steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, max(0.0, left))


class Batches(Protocol[Batch]):
    """Where a run's batches come from; `num_pools` and `weights` are its whole state."""

    num_pools: int
    weights: dict[str, float]

    def pool(self, size: int = ...) -> list[Batch]:
        """The batches of the next `size` problems."""


def precision() -> torch.autocast:
    """bfloat16 where the CPU has units for it.

    Without them it multiplies bfloat16 about a hundred times slower than float32.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


def optimizers_of(
    matrices: Iterable[torch.nn.Parameter],
    parameters: Iterable[torch.nn.Parameter],
    schedule: Schedule,
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices, AdamW for the other parameters."""
    chosen = list(matrices)
    inside = {id(p) for p in chosen}
    others = [p for p in parameters if id(p) not in inside]
    rate, decay = schedule.learning_rate, schedule.weight_decay
    found: list[torch.optim.Optimizer] = []
    if chosen:
        found.append(Muon(chosen, lr=rate, weight_decay=decay))
    found.append(torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=decay))
    return found


class Run(ABC, Generic[Batch]):
    """A model in training, which `train` takes to its last step, from where the directory has it."""

    def __init__(self, out: Path, schedule: Schedule) -> None:
        self.out, self.schedule, self.step = out, schedule, 0
        out.mkdir(parents=True, exist_ok=True)
        self.model: Any
        self.optimizers: Sequence[torch.optim.Optimizer]
        self.stream: Batches[Batch]

    @abstractmethod
    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Scalars to log: `loss`, which is minimised, and its terms."""

    @abstractmethod
    def _evaluate(self) -> float:
        """Log how the model does on validation problems; the share answered."""

    def _agree(self) -> None:
        """Write the settings down, which a run that goes on must have been started with.

        Raises:
            ValueError: if it was started with others.
        """
        path, mine = self.out / "settings.json", asdict(self.schedule)
        if (self.out / "checkpoint.pt").exists() and path.exists():
            theirs = json.loads(path.read_text())
            differing = {k: theirs.get(k) for k in mine if theirs.get(k) != mine[k]}
            if differing:
                raise ValueError(f"{path}: has {differing}; give them, or another --out")
        path.write_text(json.dumps(mine, indent=2) + "\n")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.stream.num_pools = state["step"], state["num_pools"]
            self.stream.weights = state["weights"]

    def save(self) -> None:
        """Write a checkpoint; an interruption leaves the one before."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step, "num_pools": self.stream.num_pools, "weights": self.stream.weights,
        }  # fmt: skip
        torch.save(state, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").rename(self.out / "checkpoint.pt")

    def _log(self, **values: Any) -> None:
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps({"step": self.step, **values}) + "\n")

    def _train_step(self, batch: Batch) -> dict[str, float]:
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in groups:
            group["lr"] = self.schedule.rate(self.step)
        losses = self._losses(batch)
        values = {name: loss.item() for name, loss in losses.items()}
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(f"step {self.step}: the loss is {values['loss']}")
        if losses["loss"].requires_grad:  # else the batch has nothing for the parameters that learn
            torch.autograd.backward(losses["loss"])
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return values

    def train(self) -> None:
        """Train to the last step, with a checkpoint and an evaluation now and then."""
        schedule, started = self.schedule, time.monotonic()
        with tqdm(total=schedule.num_steps, initial=self.step, unit="step") as bar:
            while self.step < schedule.num_steps:
                for batch in self.stream.pool():
                    values = self._train_step(batch)
                    bar.update()
                    bar.set_postfix(loss=f"{values['loss']:.3f}")
                    if self.step % 20 == 0:
                        self._log(**values, seconds=time.monotonic() - started)
                    if self.step % schedule.eval_every == 0 or self.step == schedule.num_steps:
                        bar.write(f"step {self.step}: {self._evaluate():.1%} of the validation set")
                    if self.step == schedule.num_steps:
                        break
                self.save()  # between pools, so that a resumed run sees none of them twice
