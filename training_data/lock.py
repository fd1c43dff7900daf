"""One writer per file: an advisory lock that the system drops when its process dies, however it dies.

Knows files. Knows nothing of what is in them.
"""

from __future__ import annotations

import errno
from pathlib import Path

from encoders.errors import DataError


class FileLock:
    """Held from construction to `close`, on `<name>.lock` beside the file (which stays: to remove it would be a race).

    Raises:
        DataError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        path = path.resolve()  # one lock, by whatever name the file is called
        if not path.name or path.is_dir():
            raise DataError(f"a file was to be written, was: {str(path)!r}, a folder; give a file's path")
        try:
            self._file = path.with_name(path.name + ".lock").open("a")
        except OSError as error:
            raise DataError(
                f"{path.name} needs a folder that exists and can be written, was: {error.strerror}; give another path"
            ) from error
        try:
            _lock(self._file.fileno())
        except OSError as error:
            self._file.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise DataError(f"{path.name} must be on a file system with locks, was: {error.strerror}") from error
            raise DataError(
                f"one process at a time writes to {path.name}, was: another is at it; wait for it or give another file"
            ) from error

    def close(self) -> None:
        """Let others write."""
        self._file.close()


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
