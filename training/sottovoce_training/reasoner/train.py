"""`make train-reasoner`: train, log, checkpoint, resume."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from .. import run
from ..families import FAMILIES
from .data import IGNORED, Batch, Stream, focused, held_out_questions
from .evaluate import accuracy, evaluate, validation_problems
from .model import new_model
from .tokenizer import completion_of, load_tokenizer, prompt_of, train_tokenizer

HELD_OUT_PER_FAMILY = 250
TOKENIZER_PER_FAMILY = 1500


@dataclass(frozen=True)
class Settings(run.Schedule):
    """What a run depends on, beside its seed."""

    tokens_per_batch: int = 4096
    focus_from: float = 0.3  # of the steps: from here on families are weighted by their errors
    compiled: bool = True  # a third faster, for a minute at the start


def loss_of(model: Any, batch: Batch, decoder: Any = None) -> torch.Tensor:
    """Mean cross-entropy of a batch's labelled tokens; the head runs at their positions only.

    `decoder` is the model's own without its head, or a compiled version of it.
    """
    decoder = model.model if decoder is None else decoder
    with run.precision():
        hidden = decoder(input_ids=batch.input_ids).last_hidden_state
        labels = batch.labels[:, 1:]
        is_labelled = labels != IGNORED
        logits = model.lm_head(hidden[:, :-1][is_labelled])
    return F.cross_entropy(logits.float(), labels[is_labelled])


class Run(run.Run[Batch]):
    """A training run in a directory, from which it can be resumed."""

    def __init__(self, out: Path, settings: Settings, seed: int) -> None:
        super().__init__(out, settings)
        torch.manual_seed(seed)
        self.settings = settings
        self.tokenizer = self._tokenizer()
        self.model = new_model(
            len(self.tokenizer), self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        )
        decoder = self.model.model
        self.decoder = torch.compile(decoder, dynamic=True) if settings.compiled else decoder
        matrices = [p for p in decoder.layers.parameters() if p.ndim == 2]
        self.optimizers = run.optimizers_of(matrices, self.model.parameters(), settings)
        held_out = held_out_questions(HELD_OUT_PER_FAMILY)
        self.stream = Stream(self.tokenizer, held_out, settings.tokens_per_batch)
        self._resume()

    def _tokenizer(self) -> Any:
        path = self.out / "tokenizer"
        if not path.exists():
            families, num_problems = FAMILIES.values(), TOKENIZER_PER_FAMILY
            problems = [p for f in families for p in f.problems("train", 0, num_problems)]
            texts = (
                prompt_of(p.question) + completion_of(p.chain.text, p.answer) for p in problems
            )
            train_tokenizer(texts, [p.question for p in problems]).save_pretrained(path)
        return load_tokenizer(path)

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": loss_of(self.model, batch, self.decoder)}

    def _evaluate(self) -> float:
        results = evaluate(self.model, self.tokenizer, validation_problems(24))
        shares = accuracy(results)
        self._log(accuracy=shares)
        if self.step >= self.settings.focus_from * self.settings.num_steps:
            self.stream.weights = focused(shares)
        return shares["all"]


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
