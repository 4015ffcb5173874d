"""A stage starts, resumes and hands over; what is exported is what was trained; the writer's tokens."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shortcut_scenes import new_student, problems, save_teacher, tokenizer

from sottovoce_training.reasoner.tokenizer import END, END_THINK, prompt_of
from sottovoce_training.shortcuts import export, train
from sottovoce_training.shortcuts.data import LATENT_STEPS
from sottovoce_training.shortcuts.generate import DEPTH, Mode, Writer
from sottovoce_training.shortcuts.modules import Variant
from sottovoce_training.shortcuts.reference import Reference
from sottovoce_training.shortcuts.train import Run, Settings, stages
from sottovoce_training.shortcuts.weights import MANIFEST, Manifest, read_weights, write_weights

COMMON: dict[str, Any] = {"batch_size": 4, "warmup": 1, "eval_every": 1}


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "HELD_OUT_PER_FAMILY", 2)
        patch.setattr(train, "VALIDATION_PER_FAMILY", 1)
        patch.setattr(train, "Writer", lambda *given: Writer(*given, max_tokens=4))
        patch.setattr(export, "HELD_OUT_PER_FAMILY", 1)
        patch.setattr(export, "MAX_TOKENS", 4)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def trained(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages, two steps each."""
    out, start = tmp_path_factory.mktemp("run"), None
    for settings in stages([], 2, 2, **COMMON):
        run = Run(out / settings.stage, settings, 0, teacher, start)
        run.stream.pool = functools.partial(run.stream.pool, 8)  # type: ignore[method-assign]
        run.train()
        start = out / settings.stage / "checkpoint.pt"
    return out


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path / "checkpoint.pt", weights_only=True)["model"]
    return found


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts of the student in which a parameter differs."""
    names = {name for name in after if not torch.equal(before[name], after[name])}
    return {name.split(".")[name.startswith("shortcuts")] for name in names}


def test_each_stage_trains_its_own_parts(trained: Path, teacher: Path, tmp_path: Path) -> None:
    settings = Settings(2, **COMMON)
    fresh = Run(tmp_path, settings, 0, teacher).model.state_dict()
    latent, shortcut = weights_of(trained / "latent"), weights_of(trained / "shortcut")
    assert changed(fresh, latent) == {"model", "feedback", "decoder"}
    assert changed(latent, shortcut) == {"routers", "adapters"}


def test_the_student_starts_as_the_teacher(teacher: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, Settings(2, **COMMON), 0, teacher)
    for name, weight in run.teacher.model.state_dict().items():
        assert torch.equal(run.model.model.state_dict()[name], weight), name


def test_a_run_resumes_where_it_was_saved(teacher: Path, tmp_path: Path) -> None:
    settings = Settings(4, **COMMON)
    run = Run(tmp_path, settings, 0, teacher)
    run._train_step(run.stream.pool(8)[0])
    run.save()
    again = Run(tmp_path, settings, 1, teacher)
    assert (again.step, again.stream.num_pools) == (1, 1)
    lessons = [one.stream.pool(8)[0] for one in (run, again)]
    assert torch.equal(lessons[0].batch.text_ids, lessons[1].batch.text_ids)
    losses = [one._train_step(lesson) for one, lesson in zip((run, again), lessons, strict=True)]
    assert losses[0] == losses[1]
    assert changed(run.model.state_dict(), again.model.state_dict()) == set()
    with pytest.raises(ValueError, match=r"has \{'alpha': 1.0\}; give them, or another --out"):
        Run(tmp_path, Settings(4, alpha=0.5, **COMMON), 0, teacher)


def test_the_log_has_the_terms_and_every_mode(trained: Path) -> None:
    for stage, settings in zip(("latent", "shortcut"), stages([], 2, 2, **COMMON), strict=True):
        entries = list(map(json.loads, (trained / stage / "log.jsonl").read_text().splitlines()))
        assert [entry["step"] for entry in entries] == [1, 2]
        names = [mode.name for mode in settings.modes]
        assert all(list(entry["modes"]) == list(entry["skipped"]) == names for entry in entries)
        assert all("all" in entry["accuracy"] for entry in entries)


def test_ablations_leave_out_what_they_name() -> None:
    both = stages([], 7, 5)
    assert [(s.stage, s.num_steps, s.variant) for s in both] == [
        ("latent", 7, Variant()),
        ("shortcut", 5, Variant()),
    ]
    (joint,) = stages(["stages", "depth"], 7, 5)
    assert (joint.stage, joint.variant) == ("joint", Variant(depth=False))
    assert {s.variant for s in stages(["step"], 7, 5)} == {Variant(step=False)}
    shares = [[s.explicit_share for s in stages(left_out, 7, 5)] for left_out in ([], ["depth"])]
    assert shares == [[0.2, 0.5], [0.2, 0.0]]
    assert [s.steps_read for s in both + stages(["decoder"], 7, 5)] == [True, True, False, False]


def test_a_lesson_without_any_shortcut_changes_nothing(teacher: Path, tmp_path: Path) -> None:
    _, settings = stages(["depth"], 2, 2, **COMMON)
    run = Run(tmp_path, settings, 0, teacher)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    lesson = next(x for x in run.stream.pool(200) if x.batch.num_latents == 1)
    run._train_step(lesson)
    assert changed(before, run.model.state_dict()) == set()
    lesson = next(x for x in run.stream.pool(200) if x.batch.num_latents > 1)
    run._train_step(lesson)
    assert changed(before, run.model.state_dict()) == {"routers", "adapters"}


def test_the_joint_run_trains_everything(teacher: Path, tmp_path: Path) -> None:
    (settings,) = stages(["stages"], 2, 2, **COMMON)
    run = Run(tmp_path, settings, 0, teacher)
    before = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    run._train_step(next(x for x in run.stream.pool(64) if x.batch.num_latents > 1))
    parts = {"model", "feedback", "routers", "adapters", "decoder"}
    assert changed(before, run.model.state_dict()) == parts


def test_without_a_decoder_there_is_none(teacher: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, stages(["decoder"], 2, 2, **COMMON)[0], 0, teacher)
    lesson = next(x for x in run.stream.pool(64) if x.latent is not None)
    assert set(run._losses(lesson)) == {"loss", "answer_nll", "state_mse"}
    assert not any(name.startswith("decoder") for name in run.model.state_dict())


@pytest.mark.parametrize(
    "mode", [Mode(2, 0.6), Mode(1, None), Mode(0, 0.6), Mode(0, None)], ids=str
)
def test_the_writer_writes_what_the_reference_does(mode: Mode) -> None:
    """In one batch of three prompts, with as many layers skipped."""
    student, ids = new_student(), tokenizer().convert_tokens_to_ids
    prompts = [prompt_of(problems()[i].question) for i in (0, 30, 90)]
    writer = Writer(student, tokenizer(), mode, max_tokens=6)
    rows, skipped, routed = writer(prompts), 0, 0
    for prompt, row in zip(prompts, rows, strict=True):
        reference = Reference(student.model, student.shortcuts, mode.depth)
        prompt_ids = tokenizer().encode(prompt)
        reference.prompt(prompt_ids)
        reference.think(mode.steps)
        given = [tokenizer().pad_token_id] * mode.steps
        if mode.steps:
            given.append(ids(END_THINK))
            reference.text(given[-1:])
        new = reference.write(ids(END), 6 + mode.steps - len(given))
        assert row[: len(given) + len(new)] == given + new
        after = reference.positions[len(prompt_ids) :]
        after = after[:-1] if new[-1] == ids(END) else after  # the end is not read
        skipped += sum(sum(position.is_skipped) for position in after)
        routed += 3 * len(after)
    assert writer.num_skipped == skipped
    assert writer.num_routed == routed
    assert (skipped > 0) == (mode.depth is not None)


def test_exported_weights_come_back(tmp_path: Path) -> None:
    student = new_student(Variant(step=False))
    size = write_weights(student.model, student.shortcuts, tmp_path)
    assert size == pytest.approx(sum(p.stat().st_size for p in tmp_path.glob("*.safe*")) / 1e6)
    model = new_student().model
    shortcuts, manifest = read_weights(tmp_path, model)
    assert manifest == Manifest(student.shortcuts.sizes, Variant(step=False))
    assert (manifest.steps, manifest.depth, manifest.trained_steps) == (6, DEPTH, LATENT_STEPS)
    for name, weight in student.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight.bfloat16().float()), name
    assert changed(student.shortcuts.state_dict(), shortcuts.state_dict()) == set()
    assert shortcuts.variant == Variant(step=False)


def test_weights_of_another_format_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = new_student()
    write_weights(student.model, student.shortcuts, tmp_path)
    found = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**found, "format": 7}))
    with pytest.raises(ValueError, match="format: 7 is not 1; export again"):
        read_weights(tmp_path, student.model)
    monkeypatch.setattr("sottovoce_training.shortcuts.weights.MAX_MEGABYTES", 0.01)
    with pytest.raises(ValueError, match=r"exceed 0\.01 MB; take smaller sizes"):
        write_weights(student.model, student.shortcuts, tmp_path)


def test_the_card_has_a_row_for_every_mode(trained: Path, teacher: Path, tmp_path: Path) -> None:
    for stage in ("latent", "shortcut"):
        with (trained / stage / "log.jsonl").open("a") as log:
            losses = {"loss": 2.0, export.CURVES[stage][0]: 1.0}
            log.write(json.dumps({"step": 20, **losses}) + "\n")
    export.main(["--run", str(trained), "--teacher", str(teacher), "--out", str(tmp_path)])
    card = (tmp_path / "README.md").read_text()
    assert "$" not in card, "a placeholder is left"
    for mode in export.MODES:
        assert f"| {mode.name} | 8 |" in card
    for name in ("latent_loss", "latent_modes", "shortcut_loss", "shortcut_modes"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in card


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train to the end"):
        export.last_stage(tmp_path)
