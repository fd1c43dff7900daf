"""Where routers are found: shipped beside the package for the packaged models, or a folder of your own; loaded once.

Knows folders and fingerprints. Fits nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.errors import DataError

if TYPE_CHECKING:
    from router.routing import Router

_SHIPPED = Path(__file__).parent / "shipped"
_shelf: dict[Path, tuple[int, Router]] = {}  # folder -> when it was saved, and what it held
_lock = threading.Lock()


def shelved(folder: str | Path) -> Router:
    """The router of a folder, read once per process and again when it was saved anew.

    Raises:
        DataError: as `Router.load`; or nothing can be called so.
    """
    from router.routing import Router

    try:
        path = Path(folder).resolve()
        config = path / "config.json"
        saved = config.stat().st_mtime_ns if config.is_file() else 0
    except (OSError, ValueError) as error:  # a name with a NUL, one too long, a folder not ours to read
        raise DataError(f"a router is named by its folder, was: {str(folder)[:200]!r} ({error}); check it") from error
    with _lock:
        if path not in _shelf or _shelf[path][0] != saved:
            _shelf[path] = saved, Router.load(path)
        return _shelf[path][1]


def shipped(backbone: Any) -> Router | None:
    """The router that comes with the package for exactly these weights, or None."""
    folder = _SHIPPED / backbone.name
    try:
        if Path(backbone.name).name != backbone.name or not folder.is_dir():
            return None
    except (OSError, ValueError):  # a name too long for a folder, or with a NUL
        return None
    router = shelved(folder)
    return router if router.backbone is not None and router.backbone[1] == backbone.fingerprint else None
