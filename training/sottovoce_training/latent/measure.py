"""How a run of a latent method answers problems, and whether its latents say the chain's steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..example import example_of
from ..families import Problem
from ..reasoner.data import IGNORED
from ..reasoner.evaluate import accuracy, score
from ..reasoner.tokenizer import END, load_tokenizer
from ..shortcuts.criticality import derived
from .data import STRIDE
from .generate import Answerer, ends
from .train import Settings, Trained, maker

NOISE = 0  # seed of ATP-Latent's latents, which are drawn when it answers, too
BATCH = 128


@dataclass(frozen=True)
class Measured:
    """Greedy answers to held-out problems."""

    accuracy: dict[str, float]  # by family, and over all problems as `all`
    fewest: float  # over all problems, with as few latents as there can be
    latents: float  # mean number
    diversity: float  # 1 - mean cosine of two latents
    read: float | None  # the share of the chain's texts that the decoder reads from their latents


class Finished:
    """A run that is over."""

    def __init__(self, folder: Path, teacher: Path) -> None:
        """Load it.

        Raises:
            FileNotFoundError: if the directory holds no run, or the run no checkpoint yet.
            ValueError: if its last step is still to come.
        """
        self.settings = Settings(**json.loads((folder / "settings.json").read_text()))
        self.tokenizer = load_tokenizer(teacher)
        self.model = Trained(self.settings.method, teacher).eval()
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        if state["step"] != self.settings.num_steps:
            raise ValueError(f"{folder}: at step {state['step']} of {self.settings.num_steps}")
        self.model.load_state_dict(state["model"])

    def measure(self, problems: Sequence[Problem]) -> Measured:
        """Answer problems twice, as trained and with the fewest latents, and read the latents."""
        torch.manual_seed(NOISE)
        writer = self._writer(self.settings.most_latents)
        found = score(writer, self.tokenizer, problems, BATCH)
        few = score(self._writer(self._fewest), self.tokenizer, problems, BATCH)
        return Measured(
            accuracy(found), accuracy(few)["all"], sum(r.num_thinking for r in found) / len(found),
            writer.diversity, self._read(problems),
        )  # fmt: skip

    @property
    def _fewest(self) -> int:
        return STRIDE if self.settings.method.startswith("atp") else 1

    def _writer(self, num_latents: int) -> Answerer:
        return Answerer(self.model.thinker, self.tokenizer, num_latents)

    @torch.inference_mode()
    def _read(self, problems: Sequence[Problem]) -> float | None:
        """Texts read word for word; those of latents that were not taken are not."""
        decoder, thinker = self.model.decoder, self.model.thinker
        if decoder is None:
            return None
        make, right = maker(self.settings), list[bool]()
        end, pad = self.tokenizer.convert_tokens_to_ids(END), self.tokenizer.pad_token_id
        for i in range(0, len(problems), BATCH):
            group = [example_of(self.tokenizer, p, derived) for p in problems[i : i + BATCH]]
            lesson = make(group, 1.0, pad)
            assert lesson.steps is not None
            tape = thinker.prompt(lesson.latent.prompt_ids, lesson.latent.is_prompt)
            z, is_real = thinker.draw(tape, self.settings.most_latents, ends)
            rows, latents = lesson.steps.rows, lesson.steps.latents
            at = rows, latents.clamp_max(z.shape[1] - 1)
            was_taken = (latents < z.shape[1]) & is_real[at]
            texts = decoder.write(z[at], end)
            goals = [_text(row, end) for row in lesson.steps.labels.tolist()]
            right += [
                taken and text == goal
                for taken, text, goal in zip(was_taken.tolist(), texts, goals, strict=True)
            ]
        return sum(right) / len(right)


def _text(labels: list[Any], end: int) -> list[int]:
    return [token for token in labels if token not in (IGNORED, end)]
