"""The batched forward pass of training: parallel over prompt and text, step by step over latents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..llama import Reader, Segment, Tape, Tensors
from ..steps import StepDecoder
from .data import Batch
from .modules import Gate, Shortcuts, Sizes, Variant


class _Mixer:
    """Takes a share of the shortcut in place of every layer's output, and keeps the shares.

    `before` holds the states, L + 1 of [B, S, H], of the latent step before. A layer's keys and
    values come from its input also where the shortcut is taken.
    """

    def __init__(self, shortcuts: Shortcuts, gate: Gate, before: Tensors | None) -> None:
        self._shortcuts, self._gate, self._before = shortcuts, gate, before
        self.gates = Tensors()  # a layer's share, [B, S], where it has a shortcut

    def __call__(self, index: int, x: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
        previous = None if self._before is None else self._before[index + 1]
        short = self._shortcuts.shortcut(index, x, previous)
        if short is None:
            return full
        share = self._gate(self._shortcuts.routers[index](x))
        self.gates.append(share)
        return share.unsqueeze(-1) * short + (1 - share).unsqueeze(-1) * full


class Student(Reader):
    """A Llama with its shortcuts, which act where a pass is given a gate.

    `decoder` says in words what a latent step stands for; it teaches, and is not exported.
    """

    def __init__(
        self, model: Any, shortcuts: Shortcuts, decoder: StepDecoder | None = None
    ) -> None:
        super().__init__(model)
        self.shortcuts, self.decoder = shortcuts, decoder

    def load(self, checkpoint: Path) -> int:
        """Take a run's weights, but for its decoder; how many steps its last stage was trained."""
        state = torch.load(checkpoint, weights_only=True)
        taken = {k: v for k, v in state["model"].items() if not k.startswith("decoder.")}
        self.load_state_dict(taken, strict=self.decoder is None)
        step: int = state["step"]
        return step

    def extend(
        self,
        tape: Tape,
        x: torch.Tensor,
        is_token: torch.Tensor,
        gate: Gate | None,
        before: Tensors | None = None,
    ) -> Segment:
        """Read inputs [B, S, H] through the gate, or through every layer if there is none."""
        if gate is None:
            return tape.extend(x, is_token)
        mixer = _Mixer(self.shortcuts, gate, before)
        return tape.extend(x, is_token, mixer)._replace(gates=mixer.gates)

    def think(self, tape: Tape, num_latents: int, gate: Gate | None) -> list[Segment]:
        """Take latent steps; the first has no step before it: its step shortcut adds nothing."""
        is_real, found = torch.ones(len(tape.last), 1, dtype=torch.bool), list[Segment]()
        for _ in range(num_latents):
            z = self.shortcuts.feedback(tape.last)
            before = found[-1].states if found else None
            found.append(self.extend(tape, z, is_real, gate, before))
        return found

    def forward(self, batch: Batch, gate: Gate | None = None, prompt: Tape | None = None) -> Pass:
        """Prompt, latent steps and text. The gate acts on the latents and the text.

        `prompt` is that of an earlier pass over the same batch, which is then not read again.
        """
        if prompt is None:
            prompt = self.prompt(batch.prompt_ids, batch.is_prompt)
        tape = replace(prompt)
        latents = self.think(tape, batch.num_latents, gate)
        last = tape.last
        text = self.extend(tape, self.embed(batch.text_ids), batch.is_text, gate)
        ends = self.normed(text.states[-1])
        return Pass(torch.cat([last, ends[:, :-1]], dim=1), prompt, latents, text)


@dataclass(frozen=True)
class Pass:
    """What a forward pass over a batch leaves."""

    hidden: torch.Tensor  # [B, T, H]: after the final norm, at the position before each text token
    prompt: Tape
    latents: list[Segment]
    text: Segment

    def thoughts(self) -> torch.Tensor:
        """The latent inputs, [B, K, H]."""
        return torch.cat([latent.states[0] for latent in self.latents], dim=1)

    def states(self) -> torch.Tensor:
        """Every layer's output at the latents, then at the text, [L, B, K + T, H]."""
        parts = [*self.latents, self.text]
        return torch.cat([torch.stack(part.states[1:]) for part in parts], dim=2)


def new_shortcuts(model: Any, variant: Variant, **sizes: int) -> Shortcuts:
    """Untrained shortcuts for a Llama; `sizes` overrides those of Sizes."""
    found = Sizes(model.config.num_hidden_layers, model.config.hidden_size, **sizes)
    return Shortcuts(found, variant, model.model.embed_tokens.weight.std().item())
