"""The playground: a page at `/` and the files that it loads, all of them in this package.

They hold no data, so they are open where the server has API keys; the page asks for the key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce_router import DEFAULT_POLICY, POLICIES, RoutingParams

from .reply import Headers, Receive, Scope, Send

_FOLDER = Path(__file__).parent / "playground"
_TYPES: dict[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
# Scripts, styles and requests of this origin only, and no way from a string to markup or code.
_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Headers = [
    (b"content-security-policy", _SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True)
class Page:
    """An ASGI app that serves one file to GET and HEAD."""

    kind: str
    body: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or for HEAD its headers."""
        length = str(len(self.body)).encode()
        headers = [(b"content-type", self.kind.encode()), (b"content-length", length), *_HEADERS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})


def read_pages() -> dict[str, Page]:
    """Every file of the playground, by its path on the server."""
    pages = {
        f"/playground/{path.name}": Page(_TYPES[path.suffix], path.read_bytes())
        for path in _FOLDER.iterdir()
    }
    catalogue = json.dumps(_catalogue()).encode()
    pages["/playground/catalogue.json"] = Page(_TYPES[".json"], catalogue)
    return {"/": pages.pop("/playground/index.html"), **pages}


def _catalogue() -> dict[str, Any]:
    """What the form offers: the policies of each mode, what they read, and the defaults."""
    params = RoutingParams()
    modes = {
        mode: {
            "default": default,
            "policies": {n: sorted(s.reads) for n, s in POLICIES.items() if s.mode == mode},
        }
        for mode, default in DEFAULT_POLICY.items()
    }
    defaults = {"threshold": params.threshold, "top_n": params.top_n}
    return {"modes": modes, "defaults": defaults}
