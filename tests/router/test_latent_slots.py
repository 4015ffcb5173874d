"""Slots of latent steps and of the student: what a request brings, and rows that outlive slots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sottovoce_router.latent.slots import LatentSlots, Stamp
from sottovoce_router.shortcuts.manifest import Manifest
from sottovoce_router.shortcuts.slots import ShortcutSlots

MANIFEST = Manifest(Path(), 2, 0.6, (2,), True, True, 3, 4, 2, 2, 1e-6)
STAMP = Stamp(steps=2, placeholder=7)
CPU = torch.device("cpu")


def new_slots() -> LatentSlots:
    return LatentSlots(2, 3, 4, torch.float32, CPU)


def test_a_slot_holds_what_its_request_asks_for() -> None:
    slots = new_slots()
    slots.add(1, "a", STAMP, prompt_len=5)
    slots.apply_staged_writes()
    assert (slots.steps[1], slots.prompt_len[1], slots.placeholder[1]) == (2, 5, 7)
    assert slots.num_steps[slots.row[1]] == 2
    slots.clear("a")
    assert not slots.steps.any()


def test_a_student_has_its_depth_and_the_logit_of_it() -> None:
    slots = ShortcutSlots(4, MANIFEST, torch.float32, CPU)
    depths = (0.75, 0.0, 1.0, None)
    for slot, depth in enumerate(depths):
        slots.add(slot, str(slot), {"params": {"shortcuts": {"depth": depth, "steps": 2}}})
    assert slots.is_student.all()
    np.testing.assert_allclose(slots.depth, [0.75, 0.0, 1.0, np.nan])
    np.testing.assert_allclose(slots.limit, [np.log(3.0), -np.inf, np.inf, np.nan], rtol=1e-6)
    slots.clear("0")
    assert slots.is_student.tolist() == [False, True, True, True]


def test_more_preempted_requests_than_rows_keep_what_they_have() -> None:
    """No request can stop the worker, however many wait to come back."""
    slots = new_slots()
    for number in range(9):
        name = str(number)
        slots.add(number % 2, name, Stamp(steps=1 + number % 3, placeholder=7), prompt_len=5)
        slots.apply_staged_writes()
        slots.vectors[slots.row[number % 2]] = number
        slots.clear(name)
    for number in range(9):
        slots.add(0, str(number), Stamp(steps=1 + number % 3, placeholder=7), prompt_len=5)
        assert (slots.vectors[slots.row[0]] == number).all()
        assert slots.num_steps[slots.row[0]] == 1 + number % 3


def test_rows_of_ended_requests_are_used_again() -> None:
    slots = new_slots()
    size = len(slots.vectors)
    for number in range(50):
        slots.add(0, str(number), STAMP, prompt_len=5)
        slots.release(str(number))
    assert len(slots.vectors) == size
