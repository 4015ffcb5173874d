"""`make train-shortcuts`: the latent student, then its routers and adapters; logs, resumes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from .. import run
from ..reasoner.data import focused, held_out_questions
from ..reasoner.evaluate import Result, accuracy, score, validation_problems
from ..reasoner.export import read_model
from ..reasoner.tokenizer import load_tokenizer
from ..steps import StepDecoder
from .criticality import RULES
from .data import Lesson, Lessons
from .generate import DEPTH, Mode, Writer
from .losses import Losses, joint_losses, latent_losses, shortcut_losses
from .modules import Variant
from .student import Student, new_shortcuts

Stage = Literal["latent", "shortcut", "joint"]
HELD_OUT_PER_FAMILY = 250
VALIDATION_PER_FAMILY = 16


@dataclass(frozen=True)
class Settings(run.Schedule):
    """What a stage depends on, beside its seed and the model that it starts from."""

    stage: Stage = "latent"
    variant: Variant = field(default_factory=Variant)
    alpha: float = 1.0  # of the states' MSE in stage 1
    beta: float = 1.0  # of the NLL in stage 2
    gamma: float = 1.0  # of what is run where nothing is critical, in stage 2
    criticality: str = "derived"  # or "linked", by which every step of these chains is critical
    explicit_share: float = 0.2  # of the lessons: thought in words
    steps_read: bool = True  # whether a decoder learns the chain's steps from the latents
    batch_size: int = 32  # problems

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What validation measures; the first is the stage's own."""
        if self.stage == "latent":
            return Mode(6, None), Mode(2, None), Mode(0, None)
        return Mode(6, DEPTH), Mode(6, None), Mode(0, DEPTH)


def _trained(student: Student, stage: Stage) -> tuple[list[Any], list[Any]]:
    """The parameters that a stage trains, and those of them that are matrices for Muon."""
    feedback, added = student.shortcuts.feedback, student.shortcuts
    layers: Iterable[Any] = student.model.model.layers.parameters()
    matrices = [p for p in [*layers, *feedback.parameters()] if p.ndim == 2]
    fresh = [*added.routers.parameters(), *added.adapters.parameters()]
    if stage == "shortcut":
        return fresh, []
    own = [*student.model.parameters(), *feedback.parameters()]
    if student.decoder is not None:
        own += student.decoder.parameters()
        layers = student.decoder.reader.model.model.layers.parameters()
        matrices += [p for p in layers if p.ndim == 2]
    return own if stage == "latent" else own + fresh, matrices


class Run(run.Run[Lesson]):
    """One stage in a directory, from which it can be resumed."""

    def __init__(
        self, out: Path, settings: Settings, seed: int, teacher: Path, start: Path | None = None
    ) -> None:
        """Start from the teacher's weights, or from a checkpoint at `start`.

        Raises:
            ValueError: if the directory holds a run with other settings.
        """
        super().__init__(out, settings)
        torch.manual_seed(seed)
        self.settings = settings
        self._agree()
        self.tokenizer = load_tokenizer(teacher)
        taught = read_model(teacher)
        self.teacher = Student(taught, new_shortcuts(taught, settings.variant))
        self.model = self._student(read_model(teacher), start)
        parameters, matrices = _trained(self.model, settings.stage)
        self.model.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        self.optimizers = run.optimizers_of(matrices, parameters, settings)
        self.stream = Lessons(
            self.tokenizer, held_out_questions(HELD_OUT_PER_FAMILY), RULES[settings.criticality],
            settings.batch_size, settings.explicit_share,
        )  # fmt: skip
        self._resume()

    def _student(self, model: Any, start: Path | None) -> Student:
        reads = self.settings.steps_read and self.settings.stage != "shortcut"
        decoder = StepDecoder(model) if reads else None
        student = Student(model, new_shortcuts(model, self.settings.variant), decoder)
        if start is not None:
            student.load(start)
        return student

    def _losses(self, batch: Lesson) -> Losses:
        settings = self.settings
        with run.precision():
            if settings.stage == "latent":
                return latent_losses(self.model, self.teacher, batch, settings.alpha)
            if settings.stage == "shortcut":
                return shortcut_losses(self.model, batch, settings.beta, settings.gamma)
            return joint_losses(
                self.model, self.teacher, batch, settings.alpha, settings.beta, settings.gamma
            )

    def measure(self, mode: Mode) -> tuple[list[Result], float]:
        """The results on the validation problems, and the share of layers skipped."""
        writer = Writer(self.model, self.tokenizer, mode)
        problems = validation_problems(VALIDATION_PER_FAMILY)
        return score(writer, self.tokenizer, problems), writer.skipped_share

    def _evaluate(self) -> float:
        found = {mode.name: self.measure(mode) for mode in self.settings.modes}
        shares = {name: accuracy(results) for name, (results, _) in found.items()}
        first = shares[self.settings.modes[0].name]
        self.stream.weights = focused(first)
        self._log(
            accuracy=first,
            modes={name: share["all"] for name, share in shares.items()},
            skipped={name: skipped for name, (_, skipped) in found.items()},
        )
        return first["all"]


def stages(
    without: Iterable[str], num_latent_steps: int, num_shortcut_steps: int, **common: Any
) -> list[Settings]:
    """The stages to run, in order; `without` names what an ablation leaves out."""
    left_out = set(without)
    common["steps_read"] = "decoder" not in left_out
    common["variant"] = Variant(depth="depth" not in left_out, step="step" not in left_out)
    # Stage 1 goes on from trained weights, stage 2 trains parts that begin at nothing.
    latent = Settings(num_latent_steps, 1e-3, stage="latent", **common)
    if "stages" in left_out:
        return [Settings(num_latent_steps, 1e-3, stage="joint", explicit_share=0.5, **common)]
    # Without the depth shortcut there is none in a text that is thought in words.
    share = 0.0 if "depth" in left_out else 0.5
    common.setdefault("warmup", 50)
    shortcut = Settings(
        num_shortcut_steps,
        5e-3,
        weight_decay=0.0,
        stage="shortcut",
        explicit_share=share,
        **common,
    )
    return [latent, shortcut]


def main(argv: list[str] | None = None) -> None:
    """Train or resume, one stage after the other."""
    parser = argparse.ArgumentParser(prog="make train-shortcuts", description=__doc__)
    parser.add_argument("--teacher", type=Path, default=Path("models/tiny-reasoner"))
    parser.add_argument("--out", type=Path, default=Path(".cache/shortcuts"))
    parser.add_argument("--stage-1-steps", type=int, default=2600)
    parser.add_argument("--stage-2-steps", type=int, default=2400)
    parts = ["depth", "step", "stages", "decoder"]
    parser.add_argument("--without", nargs="*", choices=parts, default=[])
    parser.add_argument("--criticality", choices=sorted(RULES), default="derived")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    start = None
    for settings in stages(
        args.without, args.stage_1_steps, args.stage_2_steps, criticality=args.criticality
    ):
        stage = Run(args.out / settings.stage, settings, args.seed, args.teacher, start)
        stage.train()
        start = args.out / settings.stage / "checkpoint.pt"


if __name__ == "__main__":
    main()
