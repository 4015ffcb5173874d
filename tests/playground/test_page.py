"""The playground's files as the gateway serves them."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from playground.screenshot import SIZE
from server.front import App, Front
from sottovoce_router import POLICIES
from sottovoce_server.page import read_pages

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "server" / "sottovoce_server" / "playground"
FILES = sorted(FOLDER.iterdir())
# Whatever makes markup or code of a string.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment"
    r"|setHTML|parseFromString|\beval\b|new Function|javascript:"
)


def test_the_page() -> None:
    app = App()
    response = Front(app).ask("/", method="GET")
    assert response.status == 200
    assert response.body == (FOLDER / "index.html").read_bytes()
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert int(headers["content-length"]) == len(response.body)
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == (
        "nosniff", "no-referrer",
    )  # fmt: skip
    assert app.asked == []


def test_the_picture_in_the_readme() -> None:
    """As `screenshot.py` takes it, and small."""
    picture = (ROOT / "server" / "playground.png").read_bytes()
    width_and_height = struct.unpack(">II", picture[16:24])  # of a PNG's header
    assert width_and_height == (SIZE["width"], SIZE["height"])
    assert len(picture) < 300_000
    assert "](server/playground.png)" in (ROOT / "README.md").read_text()


def test_nothing_but_files_of_this_server_runs() -> None:
    for path in read_pages():
        policy = Front(App()).ask(path, method="GET").headers["content-security-policy"]
        directives = dict(part.split(" ", 1) for part in policy.split("; "))
        assert directives.pop("require-trusted-types-for") == "'script'"
        assert set(directives.values()) == {"'none'", "'self'"}
        assert directives["default-src"] == directives["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("name", "kind"),
    [("main.js", "text/javascript"), ("style.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_its_files(name: str, kind: str) -> None:
    response = Front(App()).ask(f"/playground/{name}", method="GET")
    assert response.body == (FOLDER / name).read_bytes()
    assert response.headers["content-type"].split(";")[0] == kind


def test_head_has_no_body() -> None:
    response = Front(App()).ask("/", method="HEAD")
    assert response.body == b""
    assert int(response.headers["content-length"]) == (FOLDER / "index.html").stat().st_size


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_go_on_to_vllm(method: str) -> None:
    app = App(status=404)
    assert Front(app).ask("/", b"{}", method=method).status == 404
    assert [path for path, *_ in app.asked] == ["/"]


@pytest.mark.parametrize(
    "path", ["/playground", "/playground/", "/playground/index.html", "/playground/../page.py"]
)
def test_nothing_else_is_served(path: str) -> None:
    app = App(status=404)
    assert Front(app).ask(path, method="GET").status == 404
    assert [path for path, *_ in app.asked] == [path]


def test_keys_protect_what_the_page_asks_for_and_not_the_page() -> None:
    app = App()
    front = Front(app, keys=["a"])
    for path in read_pages():
        assert front.ask(path, method="GET").status == 200
    assert front.ask("/v1/models", method="GET").status == 401
    assert front.ask("/", b"{}", method="POST").status == 401
    assert front.ask("/playground/other.js", method="GET").status == 401
    assert app.asked == []


def test_catalogue() -> None:
    """Every policy under its mode, and what the form shows where it is left empty."""
    catalogue = json.loads(Front(App()).ask("/playground/catalogue.json", method="GET").body)
    modes = catalogue["modes"]
    for name, spec in POLICIES.items():
        if spec.mode != "explicit":
            assert modes[spec.mode]["policies"][name] == sorted(spec.reads)
    assert "explicit" not in modes
    assert modes["routed"]["default"] == "thinkrouter"
    assert catalogue["defaults"] == {"threshold": 0.7, "top_n": 10}


def test_a_wheel_holds_every_file() -> None:
    included = {f.distribution_path for f in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"sottovoce_server/playground/{path.name}" for path in FILES} <= included


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_house_rules(path: Path) -> None:
    """Short, of this server only, and without a way from text to markup."""
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert not SINKS.search(text)
    addresses = re.findall(r"https?://[^\s\"']+", text)
    assert [url for url in addresses if url != "http://www.w3.org/2000/svg"] == []
    assert "<style" not in text
    assert not re.search(r"\s(style|on\w+)=\"", text)
