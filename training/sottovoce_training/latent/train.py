"""`make train-latent`: CODI, SIM-CoT, Coconut or ATP-Latent on the tiny reasoner's problems."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import run
from ..llama import Reader
from ..reasoner.data import held_out_questions
from ..reasoner.evaluate import accuracy, score, validation_problems
from ..reasoner.export import read_model
from ..reasoner.tokenizer import END, load_tokenizer
from ..shortcuts.losses import Losses
from ..steps import StepDecoder
from .data import MAX_LATENTS, Lesson, Lessons, Maker, atp, coconut, codi
from .generate import Answerer
from .losses import atp_losses, coconut_losses, codi_losses
from .reinforce import GROUP, reinforced_losses
from .thinker import Thinker

METHODS = ("codi", "sim-cot", "coconut", "atp", "atp-rl")
HELD_OUT_PER_FAMILY = 250
VALIDATION_PER_FAMILY = 16


@dataclass(frozen=True)
class Settings(run.Schedule):
    """What a run depends on, beside its seed and the reasoner that it starts from."""

    method: str = "codi"
    num_latents: int = 6
    batch_size: int = 32  # problems

    @property
    def most_latents(self) -> int:
        """As many are taken, or fewer where a stop head says so."""
        return MAX_LATENTS if self.method.startswith("atp") else self.num_latents


def maker(settings: Settings) -> Maker:
    """What makes the method's lessons."""
    if settings.method.startswith("atp"):
        return atp()
    return (coconut if settings.method == "coconut" else codi)(settings.num_latents)


class Trained(torch.nn.Module):
    """What a run trains: the model with its head, and the decoder where the method has one."""

    def __init__(self, method: str, teacher: Path) -> None:
        super().__init__()
        model = read_model(teacher)
        self.decoder = None if method in ("codi", "coconut") else StepDecoder(model)
        self.thinker = Thinker(model, method)


class Run(run.Run[Lesson]):
    """A run of one method in a directory, from which it can be resumed."""

    def __init__(
        self, out: Path, settings: Settings, seed: int, teacher: Path, start: Path | None = None
    ) -> None:
        """Start from the reasoner's weights, or from the run of the same heads at `start`."""
        super().__init__(out, settings)
        torch.manual_seed(seed)
        self.settings = settings
        self._agree()
        self.tokenizer = load_tokenizer(teacher)
        reinforces = settings.method == "atp-rl"
        self.reasoner = Reader(read_model(teacher)) if reinforces else None
        self.model = Trained(settings.method, teacher)
        if start is not None:
            state = torch.load(start / "checkpoint.pt", weights_only=True)
            self.model.load_state_dict(state["model"])
        if reinforces:
            self.model.decoder.requires_grad_(False)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        inside = (p for name, p in self.model.named_parameters() if ".layers." in name)
        matrices = [p for p in inside if p.ndim == 2 and p.requires_grad]
        self.optimizers = run.optimizers_of(matrices, parameters, settings)
        self.stream = Lessons(
            self.tokenizer, held_out_questions(HELD_OUT_PER_FAMILY), maker(settings),
            settings.batch_size, settings.num_steps, seed,
        )  # fmt: skip
        self._resume()

    def _losses(self, batch: Lesson) -> Losses:
        thinker, decoder = self.model.thinker, self.model.decoder
        with run.precision():
            if self.settings.method == "coconut":
                return coconut_losses(thinker, batch)
            if self.settings.method == "atp":
                return atp_losses(thinker, batch, decoder)
            if self.reasoner is not None:
                end = self.tokenizer.convert_tokens_to_ids(END)
                return reinforced_losses(thinker, decoder, self.reasoner, batch.latent, end)
            return codi_losses(thinker, batch, decoder)

    def _evaluate(self) -> float:
        writer = Answerer(self.model.thinker, self.tokenizer, self.settings.most_latents)
        results = score(writer, self.tokenizer, validation_problems(VALIDATION_PER_FAMILY))
        shares = accuracy(results)
        latents = sum(r.num_thinking for r in results) / len(results)
        self._log(accuracy=shares, latents=latents, diversity=writer.diversity)
        return shares["all"]


def main(argv: list[str] | None = None) -> None:
    """Train or resume."""
    parser = argparse.ArgumentParser(prog="make train-latent", description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--teacher", type=Path, default=Path("models/tiny-reasoner"))
    parser.add_argument("--out", type=Path, help="by default .cache/latent/METHOD-SEED")
    parser.add_argument("--start", type=Path, help="a run to go on from: atp-rl from one of atp")
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--latents", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    out = args.out or Path(".cache/latent") / f"{args.method}-{args.seed}"
    settings = Settings(
        args.steps, 1e-3, warmup=args.steps // 8, method=args.method, num_latents=args.latents
    )
    if args.method == "atp-rl":  # as many rows as the others have, at a twentieth of their rate
        rows = settings.batch_size // GROUP
        settings = replace(settings, learning_rate=5e-5, batch_size=rows)
    Run(out, settings, args.seed, args.teacher, args.start).train()


if __name__ == "__main__":
    main()
