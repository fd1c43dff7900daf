"""A benchmark's folder while it is read: finds label files and pictures by their published names.

Knows paths. Opens no picture, unpacks nothing, and lets no path lead out of the folder.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from encoders.errors import DataError
from encoders.images import open_image
from training_data.example import PICTURE_ENDINGS
from training_data.rows import Row, Tally


@dataclass
class Folder:
    """Where the files of a benchmark lie.

    With `pictures`, every picture must be there when its row is read; without, paths are not looked at before
    somebody opens them: to score answers, no picture is needed.
    """

    path: Path
    tally: Tally = field(default_factory=Tally)
    pictures: bool = True
    anywhere: bool = False
    _index: dict[str, list[Path]] | None = None
    _found: list[Path] | None = None

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise DataError(f"a benchmark is read from its folder, was: {str(self.path)!r}; check the path")

    def find(self, *patterns: str) -> Path:
        """The one file below the folder that matches a pattern, tried in order of preference.

        Raises:
            DataError: none, or several that match the same pattern.
        """
        for pattern in patterns:
            found = self.find_all(pattern)
            if len(found) > 1:
                names = ", ".join(str(path.relative_to(self.path)) for path in found)
                raise DataError(
                    f"one file may match {pattern!r} in {self.path.name}, was: {names}; name the split, or remove the "
                    "others"
                )
            if found:
                return found[0]
        wanted = " or ".join(map(repr, patterns))
        raise DataError(f"a file {wanted} must lie in {self.path.name}, was: none; fetch it, or check the folder")

    def find_all(self, *patterns: str) -> list[Path]:
        """Every file below the folder that matches one of the patterns, sorted by path."""
        return [path for path in self._files() if any(path.relative_to(self.path).match(one) for one in patterns)]

    def _files(self) -> list[Path]:
        """All files below the folder, sorted; links are followed once, what archives of a Mac leave is passed over."""
        if self._found is None:
            self._found, visited = [], set()
            for home, folders, files in os.walk(self.path, followlinks=True):
                real = os.path.realpath(home)
                folders[:] = [] if real in visited else sorted(set(folders) - {"__MACOSX"})
                self._found += [Path(home, file) for file in files if not file.startswith("._") and real not in visited]
                visited.add(real)
            self._found.sort()
        return self._found

    def picture(self, row: Row, name: str, *homes: str, flat: bool = False) -> Path:
        """The path of a picture that a row names; `homes` are the folders it is published in.

        Args:
            row: for the message.
            name: as the row gives it.
            homes: looked into in this order, then the folder itself; a benchmark's are looked for at any depth.
            flat: it may lie there without the folders in its name, too.

        Raises:
            DataError: a name that leads out of the folder, or names no file; with `pictures`, one that is missing or
                ambiguous.
        """
        last = PurePosixPath(name.replace("\\", "/")).name
        if last in ("", ".", ".."):
            row.refuse("a picture's path must name a file", name)
        names = (name, last) if flat else (name,)
        places = [self._inside(row, f"{home}/{one}" if home else one) for one in names for home in (*homes, "")]
        if not self.pictures:
            return places[0]
        for place in places:
            if _is_file(place):
                return place
        found = [] if self.anywhere else self._ending_in(names)
        if len(found) > 1:
            row.refuse(
                f"a picture must have one home in {self.path.name}, found {len(found)}: {found[0].parent.name}, "
                f"{found[1].parent.name}, ...",
                name,
                "remove the copies",
            )
        if not found:
            home = self.path.resolve().name
            rule = "its picture must be a file" if self.anywhere else f"its picture must lie in {home}"
            row.refuse(rule, name, "check the path, fetch the picture, or skip bad rows")
        return found[0]

    def _ending_in(self, names: Sequence[str]) -> list[Path]:
        """The pictures at any depth whose paths end in the first of these names that any ends in."""
        for name in names:
            tail = PurePosixPath(os.path.normpath(name)).parts
            if found := [path for path in self._named(tail[-1]) if path.parts[-len(tail) :] == tail]:
                return found
        return []

    def _inside(self, row: Row, name: str) -> Path:
        if self.anywhere and "\0" not in name:
            return self.path / name
        plain = os.path.normpath(name.replace("\\", "/"))
        if plain.startswith("..") or os.path.isabs(plain) or ":" in plain.split("/")[0] or "\0" in plain:
            row.refuse(f"a picture's path must stay within {self.path.name}", name)
        return self.path / plain

    def _named(self, name: str) -> list[Path]:
        if self._index is None:
            self._index = {}
            for path in self._files():
                if path.suffix.lower() in PICTURE_ENDINGS:
                    self._index.setdefault(path.name, []).append(path)
        return self._index.get(name, [])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


@dataclass(frozen=True)
class Embedded:
    """A picture that travels inside its row as base64; decoded in memory each time it is asked for."""

    encoded: str
    where: str = field(compare=False)  # the same picture in another row is the same picture

    def __call__(self) -> Image.Image:
        try:
            content = base64.b64decode(self.encoded, validate=True)
        except ValueError as error:  # binascii's own, or of a character that is no ASCII
            raise DataError(
                f"{self.where}: a picture must be base64, was: {self.encoded[:20]!r}... ({error}); fetch the file again"
            ) from error
        return open_image(content)
