"""Training batches: problems solved in latent steps, and the same problems solved in words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..chain import Chain
from ..example import Example, example_of, padded
from ..reasoner.data import IGNORED, Source
from ..steps import StepTexts, step_texts
from .criticality import spread

LATENT_STEPS = (1, 2, 3, 4, 6, 8)  # a training batch draws one of these,
SHARES = (1, 1, 1, 1, 5, 1)  # most often the default


@dataclass(frozen=True)
class Batch:
    """B problems: a prompt of P tokens, K latent steps, a text of T tokens."""

    prompt_ids: torch.Tensor  # int64 [B, P], padded on the left
    is_prompt: torch.Tensor  # bool [B, P]
    num_latents: int
    text_ids: torch.Tensor  # int64 [B, T], padded on the right
    is_text: torch.Tensor  # bool [B, T]
    labels: torch.Tensor  # int64 [B, T]: the text, IGNORED where a token is given or padding
    is_answer: torch.Tensor  # bool [B, T]: the text after the marker that ends thinking
    criticality: torch.Tensor  # float32 [B, K + T], 0 to 1, of latents and text


@dataclass(frozen=True)
class Lesson:
    """One group of problems in both forms; `latent` is None where the explicit form is trained."""

    explicit: Batch
    latent: Batch | None
    steps: StepTexts | None = None  # what each latent stands for

    @property
    def batch(self) -> Batch:
        """The form that is trained."""
        return self.explicit if self.latent is None else self.latent


def batch_of(
    group: Sequence[Example],
    texts: list[list[int]],
    labels: list[list[int]],
    num_latents: int,
    pad: int,
    criticality: Sequence[list[float]] | None = None,
) -> Batch:
    """A batch of prompts, latent steps and texts that end with the examples' answers.

    Labels are the texts' tokens or IGNORED; criticality is 0 where none is given.
    """
    text_ids = padded(texts, pad)
    lengths = torch.tensor([len(text) for text in texts])
    columns = torch.arange(text_ids.shape[1])
    starts = lengths - torch.tensor([len(example.answer) for example in group])
    prompt_lengths = torch.tensor([len(example.prompt) for example in group])
    prompt_ids = padded([example.prompt for example in group], pad, is_left=True)
    from_end = prompt_ids.shape[1] - torch.arange(prompt_ids.shape[1])
    weights = torch.zeros(len(group), num_latents + text_ids.shape[1])
    for row, values in zip(weights, criticality or [[]] * len(group), strict=True):
        row[: len(values)] = torch.tensor(values)
    return Batch(
        prompt_ids, from_end <= prompt_lengths[:, None], num_latents, text_ids,
        is_text=columns < lengths[:, None], labels=padded(labels, IGNORED),
        is_answer=(columns > starts[:, None]) & (columns < lengths[:, None]), criticality=weights,
    )  # fmt: skip


def explicit_batch(group: Sequence[Example], pad: int) -> Batch:
    """Thinking in words; a token of the thought is as critical as its step, the answer fully."""
    texts = [example.thought + example.answer for example in group]
    criticality = [
        [float(e.critical[line]) for line in e.lines] + [1.0] * len(e.answer) for e in group
    ]
    return batch_of(group, texts, texts, 0, pad, criticality)


def latent_batch(group: Sequence[Example], num_latents: int, pad: int) -> Batch:
    """Thinking in latent steps; the marker that ends it is given, the answer is fully critical."""
    texts = [example.answer for example in group]
    labels = [[IGNORED, *text[1:]] for text in texts]
    criticality = [spread(e.critical, num_latents) + [1.0] * len(e.answer) for e in group]
    return batch_of(group, texts, labels, num_latents, pad, criticality)


class Lessons(Source):
    """An endless, seeded stream of lessons; a share of them explicit."""

    def __init__(
        self,
        tokenizer: Any,
        held_out: set[str],
        is_critical: Callable[[Chain], list[bool]],
        batch_size: int,
        explicit_share: float,
    ) -> None:
        super().__init__(held_out)
        self._tokenizer, self._is_critical = tokenizer, is_critical
        self._batch_size, self._explicit_share = batch_size, explicit_share

    def _lesson(self, group: Sequence[Example], rng: random.Random) -> Lesson:
        pad = self._tokenizer.pad_token_id
        explicit = explicit_batch(group, pad)
        (num_latents,) = rng.choices(LATENT_STEPS, SHARES)
        if rng.random() < self._explicit_share:
            return Lesson(explicit, None)
        latent, texts = latent_batch(group, num_latents, pad), step_texts(group, num_latents, pad)
        return Lesson(explicit, latent, texts)

    def pool(self, size: int = 1024) -> list[Lesson]:
        """The lessons of the next `size` problems, of similar length each, in random order."""
        problems, rng = self.draw(size)
        examples = [example_of(self._tokenizer, p, self._is_critical) for p in problems]
        examples.sort(key=lambda e: len(e.prompt) + len(e.thought))
        groups = [
            examples[i : i + self._batch_size] for i in range(0, len(examples), self._batch_size)
        ]
        rng.shuffle(groups)
        return [self._lesson(group, rng) for group in groups]
