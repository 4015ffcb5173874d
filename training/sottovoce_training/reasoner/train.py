"""`make train-reasoner`: train, log, checkpoint, resume."""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..families import FAMILIES
from .data import IGNORED, Batch, Stream, focused, held_out_questions
from .evaluate import accuracy, evaluate, validation_problems
from .model import new_model
from .muon import Muon
from .tokenizer import completion_of, load_tokenizer, prompt_of, train_tokenizer

HELD_OUT_PER_FAMILY = 250


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its seed."""

    num_steps: int
    tokens_per_batch: int = 4096
    learning_rate: float = 2e-3
    warmup: int = 200
    decay_share: float = 0.7  # of the steps, at the end, over which the rate falls to zero
    weight_decay: float = 0.05
    eval_every: int = 500
    focus_from: float = 0.3  # of the steps: from here on families are weighted by their errors
    compiled: bool = True  # a third faster, for a minute at the start

    def rate(self, step: int) -> float:
        """The learning rate of a step: warm-up, plateau, linear decay."""
        left = (self.num_steps - step) / max(1.0, self.decay_share * self.num_steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, max(0.0, left))


def loss_of(model: Any, batch: Batch, decoder: Any = None) -> torch.Tensor:
    """Mean cross-entropy of a batch's labelled tokens; the head runs at their positions only.

    `decoder` is the model's own without its head, or a compiled version of it.
    """
    decoder = model.model if decoder is None else decoder
    # Without bfloat16 units a CPU multiplies bfloat16 about a hundred times slower than float32.
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        hidden = decoder(input_ids=batch.input_ids).last_hidden_state
        labels = batch.labels[:, 1:]
        is_labelled = labels != IGNORED
        logits = model.lm_head(hidden[:, :-1][is_labelled])
    return F.cross_entropy(logits.float(), labels[is_labelled])


def optimizers_of(model: Any, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the layers' matrices, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    rate, decay = settings.learning_rate, settings.weight_decay
    return [
        Muon(matrices, lr=rate, weight_decay=decay),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=decay),
    ]


class Run:
    """A training run in a directory, from which it can be resumed."""

    def __init__(self, out: Path, settings: Settings, seed: int) -> None:
        torch.manual_seed(seed)
        self.out, self.settings, self.step = out, settings, 0
        out.mkdir(parents=True, exist_ok=True)
        self.tokenizer = self._tokenizer()
        self.model = new_model(
            len(self.tokenizer), self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        )
        decoder = self.model.model
        self.decoder = torch.compile(decoder, dynamic=True) if settings.compiled else decoder
        self.optimizers = optimizers_of(self.model, settings)
        held_out = held_out_questions(HELD_OUT_PER_FAMILY)
        self.stream = Stream(self.tokenizer, held_out, settings.tokens_per_batch)
        self._resume()

    def _tokenizer(self) -> Any:
        path = self.out / "tokenizer"
        if not path.exists():
            problems = [p for f in FAMILIES.values() for p in f.problems("train", 0, 1500)]
            texts = (
                prompt_of(p.question) + completion_of(p.chain.text, p.answer) for p in problems
            )
            train_tokenizer(texts, [p.question for p in problems]).save_pretrained(path)
        return load_tokenizer(path)

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

    def _evaluate(self) -> float:
        results = evaluate(self.model, self.tokenizer, validation_problems(24))
        shares = accuracy(results)
        self._log(accuracy=shares)
        if self.step >= self.settings.focus_from * self.settings.num_steps:
            self.stream.weights = focused(shares)
        return shares["all"]

    def _train_step(self, batch: Batch) -> float:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.rate(self.step)
        loss = loss_of(self.model, batch, self.decoder)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"step {self.step}: the loss is {loss.item()}")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def train(self) -> None:
        """Train to the last step, with a checkpoint and an evaluation now and then."""
        settings, started = self.settings, time.monotonic()
        with tqdm(total=settings.num_steps, initial=self.step, unit="step") as bar:
            while self.step < settings.num_steps:
                for batch in self.stream.pool():
                    loss = self._train_step(batch)
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.3f}")
                    if self.step % 20 == 0:
                        self._log(loss=loss, seconds=time.monotonic() - started)
                    if self.step % settings.eval_every == 0:
                        bar.write(f"step {self.step}: {self._evaluate():.1%} of the validation set")
                    if self.step == settings.num_steps:
                        break
                self.save()  # between pools, so that a resumed run sees none of them twice


def main() -> None:
    """Train or resume."""
    parser = argparse.ArgumentParser(prog="make train-reasoner", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".cache/tiny-reasoner"))
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    Run(args.out, Settings(args.steps), args.seed).train()


if __name__ == "__main__":
    main()
