"""The seam: every hook in place, once, and a clear refusal where vLLM is not what it should be."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts import run
from sottovoce_router import seam
from sottovoce_router.errors import PluginError

# Each is a function of inside_vllm.py, which runs on vLLM's own classes.
CHECKS = [
    "check_every_hook_is_in_place",
    "check_registering_again_wraps_once",
    "check_imports_are_frozen_in_a_process_of_vllms",
    "check_compiled_models_are_found_by_what_they_take",
    "check_only_ended_requests_are_finished",
    "check_a_constant_outlives_sleep",
    "check_soft_blocks_are_their_requests_own",
    "check_admission_refuses_as_vllm_does",
    "check_the_stamp_reaches_the_worker",
    "check_a_request_without_room_keeps_its_answer",
]
SHORTCUT_CHECKS = ["check_norms_are_those_of_vllm", "check_parts_are_those_of_training"]


def start_ahead(_folder: Path) -> Callable[[], list[Any]]:
    """Run them all."""
    return lambda: run("router/inside_vllm.py")


@pytest.mark.parametrize("check", CHECKS)
def test_inside_vllm(made_ahead: list[Any], check: str) -> None:
    error = dict(made_ahead)[check]
    assert error is None, error


def double(original: Any) -> Any:
    return lambda *arguments: 2 * original(*arguments)


@pytest.mark.parametrize("check", SHORTCUT_CHECKS)
def test_shortcuts_inside_vllm(check: str) -> None:
    error = dict(run("router/shortcuts_inside_vllm.py"))[check]
    assert error is None, error


class Owner:
    """Stands for a class of vLLM's."""

    def method(self, x: int) -> int:
        """What vLLM does."""
        return x

    @classmethod
    def build(cls, x: int) -> int:
        """What vLLM builds."""
        assert issubclass(cls, Owner)
        return x


@pytest.fixture
def owner() -> Any:
    return type("Owner", (Owner,), dict(vars(Owner)))


def test_wrap_calls_the_original(owner: Any) -> None:
    seam.wrap(owner, "method", double)
    assert owner().method(3) == 6
    assert owner.method.__doc__ == "What vLLM does."


def test_wrap_keeps_a_class_method(owner: Any) -> None:
    seam.wrap(owner, "build", double)
    assert owner.build(3) == owner().build(3) == 6


@pytest.mark.parametrize("name", ["method", "build"])
def test_wrapping_twice_wraps_once(owner: Any, name: str) -> None:
    seam.wrap(owner, name, double)
    seam.wrap(owner, name, double)
    assert getattr(owner(), name)(3) == 6


def test_a_missing_name_is_refused_with_a_remedy(owner: Any) -> None:
    with pytest.raises(PluginError, match=r"vllm has no Owner\.gone,.*install vllm==0\.32\.0"):
        seam.wrap(owner, "gone", double)


def test_an_inherited_name_is_refused() -> None:
    """A hook on the child would leave out whoever calls the base."""
    child: Any = type("Child", (Owner,), {})
    with pytest.raises(PluginError, match=r"Child\.method"):
        seam.wrap(child, "method", double)


@pytest.mark.parametrize("version", ["0.31.0", "0.33.0", "1.0.0", "0.3.20"])
def test_another_version_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = ModuleType("vllm")
    vllm.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    with pytest.raises(PluginError, match=f"vllm {version} is installed.*install vllm==0.32.0"):
        seam.check_version()


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.32.0.post1"])
def test_the_pinned_version_is_accepted(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm = ModuleType("vllm")
    vllm.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    seam.check_version()


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported and was not yet."""
    (tmp_path / "late_module.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "late_module"
    sys.modules.pop("late_module", None)


def test_a_hook_waits_for_its_module(late: str) -> None:
    seen: list[int] = []
    seam.after_import(late, lambda module: seen.append(module.value))
    assert seen == [], "registering imports nothing"
    importlib.import_module(late)
    importlib.import_module(late)
    assert seen == [1]


def test_a_module_may_have_several_hooks(late: str) -> None:
    seen: list[str] = []
    seam.after_import(late, lambda module: seen.append("first"))
    seam.after_import(late, lambda module: seen.append("second"))
    importlib.import_module(late)
    assert sorted(seen) == ["first", "second"]


def test_a_hook_runs_at_once_on_a_loaded_module(late: str) -> None:
    importlib.import_module(late)
    seen: list[int] = []
    seam.after_import(late, lambda module: seen.append(module.value))
    assert seen == [1]


def test_a_missing_module_is_refused_with_a_remedy() -> None:
    seam.after_import("no_such_module_of_vllm", lambda module: None)
    with pytest.raises(PluginError, match=r"no_such_module_of_vllm.*install vllm==0.32.0"):
        importlib.import_module("no_such_module_of_vllm")
