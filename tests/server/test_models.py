"""Short model names on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce_server import models
from sottovoce_server.models import KnownModel, resolve

PATH = "/cache/toy"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that nothing has to be fetched for."""
    known = KnownModel(lambda: Path(PATH), ("--max-model-len", "64"))
    monkeypatch.setattr(models, "MODELS", {"toy": known})


def test_short_name_brings_its_flags() -> None:
    assert resolve(["serve", "toy"]) == [
        "serve", PATH, "--max-model-len", "64", "--served-model-name", "toy",
    ]  # fmt: skip


def test_flags_of_the_user_come_last() -> None:
    """argparse takes the last of two."""
    words = resolve(["serve", "toy", "--max-model-len", "32"])
    assert words[-2:] == ["--max-model-len", "32"]
    named = resolve(["serve", "toy", "--served-model-name", "mine"])
    assert named.count("--served-model-name") == 1


@pytest.mark.parametrize(
    "argv", [["serve", "other/model"], ["serve", "m", "--served-model-name", "toy"], ["serve"], []]
)
def test_everything_else_is_left_alone(argv: list[str]) -> None:
    assert resolve(argv) == argv


def test_model_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch() -> Path:
        raise RuntimeError("check the network")

    monkeypatch.setattr(models, "MODELS", {"toy": KnownModel(fetch, ())})
    with pytest.raises(SystemExit, match="sottovoce: check the network"):
        resolve(["serve", "toy"])
