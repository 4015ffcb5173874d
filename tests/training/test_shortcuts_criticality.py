"""Which steps of a chain are critical, how latents share them, and the weights that follow."""

from __future__ import annotations

import pytest
import torch

from sottovoce_training.chain import Chain
from sottovoce_training.families import FAMILIES
from sottovoce_training.shortcuts.criticality import derived, exit_weights, linked, spread


def chain_of(*uses: tuple[int, ...]) -> Chain:
    chain = Chain()
    for index, used in enumerate(uses):
        chain.add(f"step {index}", *used)
    return chain


def test_derived_steps_take_results_and_linked_ones_also_give_them() -> None:
    chain = chain_of((), (), (0,), (), (2,))  # 0 -> 2 -> 4; 1 and 3 stand alone
    assert derived(chain) == [False, False, True, False, True]
    assert linked(chain) == [True, False, True, False, True]
    assert derived(Chain()) == linked(Chain()) == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_step_of_our_chains_is_linked_but_not_derived(family: object) -> None:
    """Why `derived` is the default: by the other rule no step could ever go shallow."""
    chains = [p.chain for p in FAMILIES[family.name].problems("train", 0, 30)]  # type: ignore[attr-defined]
    assert all(all(linked(chain)) for chain in chains)
    share = sum(map(sum, map(derived, chains))) / sum(len(chain.steps) for chain in chains)
    assert 0.3 < share < 0.9


@pytest.mark.parametrize(
    ("critical", "num_latents", "expected"),
    [
        ([False, True], 2, [0.0, 1.0]),
        ([False, True, True], 2, [0.0, 1.0]),
        ([False, False, True, True, True, False], 3, [0.0, 1.0, 0.5]),
        ([True, False], 4, [1.0, 0.0, 0.0, 0.0]),  # fewer steps than latents: the last have none
        ([False, True], 3, [0.0, 1.0, 0.0]),
        ([True], 8, [1.0] + [0.0] * 7),
        ([False, True, True, True], 1, [0.75]),
    ],
)
def test_a_chain_is_spread_over_the_latents(
    critical: list[bool], num_latents: int, expected: list[float]
) -> None:
    assert spread(critical, num_latents) == pytest.approx(expected)


def test_nothing_cannot_be_spread() -> None:
    with pytest.raises(ValueError, match="without steps"):
        spread([], 2)


def test_critical_steps_are_judged_at_the_end_and_others_from_the_start() -> None:
    found = exit_weights(torch.tensor([[1.0, 0.0, 0.5]]), 3)
    assert found.shape == (3, 1, 3)
    expected = torch.tensor([[0, 0, 1], [1 / 2, 1 / 3, 1 / 6], [1 / 4, 1 / 6, 1 / 12 + 1 / 2]])
    torch.testing.assert_close(found[:, 0].T, expected)
