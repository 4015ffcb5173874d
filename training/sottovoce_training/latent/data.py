"""Training batches of the latent methods: what is thought in latents, and what in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..example import Example, example_of
from ..reasoner.data import IGNORED, Source
from ..shortcuts.criticality import derived
from ..shortcuts.data import Batch, batch_of, explicit_batch, latent_batch
from ..steps import StepTexts, latent_of, step_texts

MAX_LATENTS = 20  # of ATP-Latent (arXiv 2601.21598), which asks whether to stop every
STRIDE = 2  # latents


@dataclass(frozen=True)
class Lesson:
    """A group of problems."""

    latent: Batch
    explicit: Batch | None = None  # the same problems in words, where the method learns from them
    is_real: torch.Tensor | None = None  # bool [B, K]: the latents of each row, if fewer than K
    steps: StepTexts | None = None  # what the latents are to say, where the method asks


Maker = Callable[[Sequence[Example], float, int], Lesson]  # examples, progress 0 to 1, pad id


def codi(num_latents: int) -> Maker:
    """Both forms: one model is the teacher and the student. Step texts serve SIM-CoT."""

    def make(group: Sequence[Example], progress: float, pad: int) -> Lesson:
        steps = step_texts(group, num_latents, pad)
        return Lesson(
            latent_batch(group, num_latents, pad), explicit_batch(group, pad), None, steps
        )

    return make


def stage_at(progress: float, num_latents: int) -> int:
    """How many latents stand for steps: one more every equal stretch, all of them for the last half."""
    return min(num_latents, int(2 * progress * num_latents))


def coconut(num_latents: int) -> Maker:
    """The curriculum: latents stand for the first steps, the others are written out."""

    def make(group: Sequence[Example], progress: float, pad: int) -> Lesson:
        stage = stage_at(progress, num_latents)
        if stage == num_latents:
            return Lesson(latent_batch(group, stage, pad))
        texts = [_left(example, stage, num_latents) + example.answer for example in group]
        return Lesson(batch_of(group, texts, texts, stage, pad))

    return make


def _left(example: Example, stage: int, num_latents: int) -> list[int]:
    num_steps = len(example.critical)
    return [
        token
        for token, line in zip(example.thought, example.lines, strict=True)
        if latent_of(line, num_steps, num_latents) >= stage
    ]


def atp() -> Maker:
    """STRIDE latents a step, the last of which says it; steps share latents beyond MAX_LATENTS."""

    def make(group: Sequence[Example], progress: float, pad: int) -> Lesson:
        units = torch.tensor([min(len(e.critical), MAX_LATENTS // STRIDE) for e in group])
        most = int(units.max())
        is_real = torch.arange(STRIDE * most) < STRIDE * units[:, None]
        found = [step_texts([e], int(n), pad) for e, n in zip(group, units, strict=True)]
        rows = torch.cat([part.rows + row for row, part in enumerate(found)])
        latents = torch.cat([STRIDE * part.latents + STRIDE - 1 for part in found])
        longest = max(part.ids.shape[1] for part in found)
        ids = torch.cat([_widened(part.ids, longest, pad) for part in found])
        labels = torch.cat([_widened(part.labels, longest, IGNORED) for part in found])
        latent = latent_batch(group, STRIDE * most, pad)
        return Lesson(latent, None, is_real, StepTexts(rows, latents, ids, labels))

    return make


def _widened(ids: torch.Tensor, length: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (0, length - ids.shape[1]), value=value)


class Lessons(Source):
    """An endless, seeded stream of lessons, which may change as the run progresses."""

    def __init__(
        self,
        tokenizer: Any,
        held_out: set[str],
        make: Maker,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
    ) -> None:
        super().__init__(held_out, seed)
        self._tokenizer, self._make, self._batch_size = tokenizer, make, batch_size
        self._num_steps = num_steps

    def pool(self, size: int = 1024) -> list[Lesson]:
        """The lessons of the next `size` problems, of similar length each, in random order."""
        progress = self.num_pools * size / self._batch_size / self._num_steps
        problems, rng = self.draw(size)
        examples = [example_of(self._tokenizer, p, derived) for p in problems]
        examples.sort(key=lambda e: len(e.prompt) + len(e.thought))
        starts = list(range(0, len(examples), self._batch_size))
        rng.shuffle(starts)
        pad = self._tokenizer.pad_token_id
        return [self._make(examples[i : i + self._batch_size], progress, pad) for i in starts]
