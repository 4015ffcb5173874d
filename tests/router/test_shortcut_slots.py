"""Slots of the student: what a request brings, and rows that outlive slots without end."""

from __future__ import annotations

from pathlib import Path

import torch

from sottovoce_router.shortcuts.manifest import Manifest
from sottovoce_router.shortcuts.slots import ShortcutSlots, Stamp

MANIFEST = Manifest(Path(), 2, 0.6, (2,), True, True, 3, 4, 2, 2, 1e-6)
STAMP = Stamp(depth=0.5, steps=2, placeholder=7)


def new_slots(num_slots: int = 2) -> ShortcutSlots:
    return ShortcutSlots(num_slots, MANIFEST, torch.float32, torch.device("cpu"))


def test_a_slot_holds_what_its_request_asks_for() -> None:
    slots = new_slots()
    slots.add(1, "a", STAMP, prompt_len=5)
    assert slots.is_student.tolist() == [False, True]
    assert (slots.depth[1], slots.steps[1], slots.prompt_len[1]) == (0.5, 2, 5)
    slots.clear("a")
    assert not slots.is_student.any()


def test_more_preempted_requests_than_rows_keep_what_they_have() -> None:
    """No request can stop the worker, however many wait to come back."""
    slots = new_slots()
    for number in range(9):
        name = str(number)
        slots.add(number % 2, name, STAMP, prompt_len=5)
        slots.latents[slots.row[number % 2]] = number
        slots.clear(name)
    for number in range(9):
        slots.add(0, str(number), STAMP, prompt_len=5)
        assert (slots.latents[slots.row[0]] == number).all()


def test_rows_of_ended_requests_are_used_again() -> None:
    slots = new_slots()
    size = len(slots.latents)
    for number in range(50):
        slots.add(0, str(number), STAMP, prompt_len=5)
        slots.release(str(number))
    assert len(slots.latents) == size
