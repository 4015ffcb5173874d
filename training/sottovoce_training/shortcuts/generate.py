"""Greedy generation in batches, with latent steps and hard gates, for validation and the card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..llama import Segment
from ..reasoner.evaluate import left_padded
from ..reasoner.tokenizer import END, END_THINK
from .modules import Gate
from .student import Student

# The paper's is 0.6. By what 512 validation problems say of the shipped routers, a quarter of the
# layers are skipped from here on without loss.
DEPTH = 0.72


@dataclass(frozen=True)
class Mode:
    """What a request sets: latent steps, or 0 to think in words; a depth, or None for all layers."""

    steps: int = 6
    depth: float | None = DEPTH

    @property
    def name(self) -> str:
        """For tables and legends."""
        thinking = f"{self.steps} latent steps" if self.steps else "in words"
        return thinking + ("" if self.depth is None else f", depth {self.depth}")


@dataclass
class Writer:
    """Writes after prompts in one mode, and counts layers; a latent step counts as a pad token."""

    student: Student
    tokenizer: Any
    mode: Mode
    max_tokens: int = 256
    num_skipped: float = 0.0  # layer executions that a shortcut stood in for,
    num_routed: int = 0  # of those at latent steps and in the text

    @property
    def skipped_share(self) -> float:
        """The share of layer executions skipped after the prompt."""
        return self.num_skipped / max(1, self.num_routed)

    def _count(self, segment: Segment, is_active: torch.Tensor) -> None:
        self.num_routed += int(is_active.sum()) * (len(segment.states) - 1)
        self.num_skipped += sum(float(gate[is_active].sum()) for gate in segment.gates)

    @torch.inference_mode()
    def __call__(self, prompts: list[str]) -> list[list[int]]:
        """The tokens after each prompt: pads for latent steps, what was forced, what was chosen."""
        mode = self.mode
        gate = None if mode.depth is None else Gate(mode.depth)
        end, pad = self.tokenizer.convert_tokens_to_ids(END), self.tokenizer.pad_token_id
        inputs = left_padded(self.tokenizer, prompts)
        tape = self.student.prompt(inputs.input_ids, inputs.attention_mask.bool())
        is_active = torch.ones(len(prompts), 1, dtype=torch.bool)
        for segment in self.student.think(tape, mode.steps, gate):
            self._count(segment, is_active)
        written = [torch.full((len(prompts), mode.steps), pad)]
        forced = self.tokenizer.convert_tokens_to_ids(END_THINK) if mode.steps else None
        for _ in range(self.max_tokens):
            token = self.student.logits(tape.last).argmax(-1)
            if forced is not None:
                token, forced = torch.full_like(token, forced), None
            token = torch.where(is_active, token, pad)
            written.append(token)
            is_active = is_active & (token != end)
            if not is_active.any():
                break
            read = self.student.extend(tape, self.student.embed(token), is_active, gate)
            self._count(read, is_active)
        rows: list[list[int]] = torch.cat(written, dim=1).tolist()
        return rows
