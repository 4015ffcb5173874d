"""Heads and their noise: the trainer's maths, the same for a row whatever is drawn beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sottovoce_router.errors import PluginError
from sottovoce_router.latent.heads import HEADS, load_head
from sottovoce_router.latent.manifest import METHODS, Manifest
from sottovoce_router.latent.noise import normal, seed_of
from sottovoce_training.latent.heads import Atp, Codi

WIDTH, CPU = 16, torch.device("cpu")


def manifest(method: str, width: int = WIDTH) -> Manifest:
    return Manifest(method, 4, 2 if method == "atp" else None, 8, width, "<bot>", "<eot>")


def write(folder: Path, head: torch.nn.Module) -> str:
    (folder / "latent").mkdir()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    save_file(head.state_dict(), folder / "latent" / "head.safetensors")
    return str(folder)


def test_every_method_has_a_head() -> None:
    assert HEADS.keys() == set(METHODS)


def test_coconut_feeds_the_state(tmp_path: Path) -> None:
    head = load_head(str(tmp_path), manifest("coconut"), WIDTH, CPU)
    states = torch.randn(3, WIDTH)
    assert head(states, lambda: torch.full_like(states, torch.nan)) is states
    assert head.stride is None


def test_codi_is_the_trainers(tmp_path: Path) -> None:
    trained = Codi(WIDTH, 0.1)
    head = load_head(write(tmp_path, trained), manifest("codi"), WIDTH, CPU)
    states = torch.randn(3, WIDTH).bfloat16()
    found = head(states, lambda: torch.full_like(states, torch.nan))
    assert torch.equal(found, trained(states.float()).z)


def test_atp_is_the_trainers(tmp_path: Path) -> None:
    trained = Atp(WIDTH, 0.1)
    head = load_head(write(tmp_path, trained), manifest("atp"), WIDTH, CPU)
    states, noise = torch.randn(64, WIDTH), torch.randn(64, WIDTH)
    thought = trained(states)
    assert thought.mean is not None
    assert thought.log_std is not None
    want = thought.mean + thought.log_std.exp() * noise
    torch.testing.assert_close(head(states, lambda: noise), want, rtol=1e-6, atol=1e-6)
    stops = head.stops(states)
    assert torch.equal(stops, trained.stop(states).squeeze(-1) > 0)
    assert (stops.unique().tolist(), head.stride) == ([False, True], 2)


def test_a_head_of_another_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, Codi(WIDTH, 0.1))
    with pytest.raises(PluginError, match="width 8, but the model's have 16"):
        load_head(path, manifest("codi", 8), WIDTH, CPU)
    with pytest.raises(PluginError, match=r"(?s)head.safetensors: .*convert the model again"):
        load_head(path, manifest("atp"), WIDTH, CPU)
    with pytest.raises(PluginError, match=r"(?s)head.safetensors: .*convert the model again"):
        load_head(str(tmp_path / "none"), manifest("atp"), WIDTH, CPU)


def test_noise_is_a_rows_own() -> None:
    seeds, steps = torch.tensor([5, 5, -7, 2**63 - 1]), torch.tensor([0, 1, 0, 63])
    together = normal(seeds, steps, 33)
    for i in range(4):
        assert torch.equal(normal(seeds[i : i + 1], steps[i : i + 1], 33)[0], together[i])
    assert len({tuple(row.tolist()) for row in together}) == 4
    assert torch.equal(normal(seeds, steps, 8), together[:, :8])


def test_noise_is_normal() -> None:
    x = normal(torch.arange(200), torch.arange(200) % 20, 500).double().flatten()
    assert x.isfinite().all()
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs(x.pow(4).mean() - 3) < 0.1
    shares = [(x < bound).double().mean() for bound in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    assert shares == pytest.approx([0.0228, 0.1587, 0.5, 0.8413, 0.9772], abs=0.005)
    rows = normal(torch.arange(200), torch.zeros(200, dtype=torch.int64), 500)
    alike = torch.corrcoef(torch.stack([rows[:-1].flatten(), rows[1:].flatten()]))[0, 1]
    assert abs(alike) < 0.02


def test_a_request_without_a_seed_has_one_of_its_own() -> None:
    assert seed_of("a") == seed_of("a") != seed_of("b")
    assert -(2**63) <= seed_of("c") < 2**63
