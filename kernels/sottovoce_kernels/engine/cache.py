"""Where numba keeps what it compiled of this package, so that it never takes what is stale.

numba knows the file of a function, and does not see that a function or a constant of another file,
which it compiled in, has changed.
"""

import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def cache_directory() -> Path:
    """A place of its own for every state of the sources that are compiled."""
    folders = (_PACKAGE / "engine", _PACKAGE / "cpu")
    sources = [_PACKAGE / "layout.py", *(p for folder in folders for p in folder.glob("*.py"))]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return _PACKAGE / "__pycache__" / f"numba-{digest.hexdigest()[:16]}"
