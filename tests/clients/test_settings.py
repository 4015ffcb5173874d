"""Flags and commands, and the requests that they become."""

from __future__ import annotations

import argparse

import pytest

from sottovoce_client.settings import (
    SettingError,
    Settings,
    add_flags,
    client_of,
    settings_of,
)


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(argv)


def test_nothing_set_is_the_servers_choice() -> None:
    assert Settings().options() == {"mode": None, "routing": None, "trace": True}


def test_fields_go_where_they_belong() -> None:
    settings = Settings("routed")
    for name, value in [
        ("threshold", "0.8"),
        ("policy", "random"),
        ("cold_stop", "null"),
        ("routing.window", "128"),
        ("temperature", "0"),
        ("stop", '["a b", "c"]'),
        ("reasoning_effort", "low"),
    ]:
        settings.assign(name, value)
    assert settings.options() == {
        "mode": "routed",
        "trace": True,
        "routing": {"threshold": 0.8, "policy": "random", "cold_stop": None, "window": 128},
        "temperature": 0,
        "stop": ["a b", "c"],
        "reasoning_effort": "low",
    }
    assert str(settings).startswith('mode routed, threshold 0.8, policy "random"')


def test_unset() -> None:
    settings = Settings(routing={"threshold": 0.8}, sampling={"seed": 1})
    settings.assign("threshold", "")
    settings.assign("seed", "")
    settings.assign("top_p", "")
    assert settings == Settings()


def test_explicit_has_the_routing_of_every_mode() -> None:
    settings = Settings("explicit", routing={"threshold": 0.8, "min_answer_tokens": 9})
    assert settings.options()["routing"] == {"min_answer_tokens": 9}


def test_explicit_has_no_other_routing() -> None:
    """The server refuses it; what was set waits for the next soft mode."""
    settings = Settings("explicit", routing={"threshold": 0.8})
    assert settings.options()["routing"] is None
    settings.choose_mode("latent")
    assert settings.options()["routing"] == {"threshold": 0.8}


@pytest.mark.parametrize("name", ["treshold", "mode", "trace", "model", "n", ""])
def test_what_cannot_be_set(name: str) -> None:
    with pytest.raises(SettingError, match=r"threshold, confidence.*temperature"):
        Settings().assign(name, "1")


def test_modes() -> None:
    settings = Settings()
    settings.choose_mode("latent")
    with pytest.raises(SettingError, match=r"'loud'.*explicit.*default"):
        settings.choose_mode("loud")
    assert settings.mode == "latent"
    settings.choose_mode("default")
    assert settings.mode is None


def test_flags() -> None:
    settings = settings_of(parsed("--mode", "routed", "--set", "threshold=0.8", "--set", "seed=3"))
    assert settings == Settings("routed", {"threshold": 0.8}, {"seed": 3})
    assert settings_of(parsed()) == Settings()
    with pytest.raises(SettingError):
        settings_of(parsed("--mode", "loud"))
    with pytest.raises(SettingError):
        settings_of(parsed("--set", "loudness=1"))


@pytest.mark.parametrize(
    ("argv", "environment", "header"),
    [
        ([], {}, None),
        ([], {"VLLM_API_KEY": "env"}, "Bearer env"),
        (["--api-key", "flag"], {"VLLM_API_KEY": "env"}, "Bearer flag"),
    ],
)
def test_key(argv: list[str], environment: dict[str, str], header: str | None) -> None:
    with client_of(parsed(*argv), environment) as client:
        assert client._http.headers.get("authorization") == header
