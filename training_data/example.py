"""One question about one picture, with what counts as right.

Knows no benchmark, no model and no score. Pictures stay unopened until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from encoders.errors import DataError, ImageError, MatryoshkaError

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
Source = Path | str | Image.Image | Callable[[], Image.Image]  # a path, a picture, or a callable that makes one


def drawn(source: Source) -> Path | str | Image.Image:
    """What a source stands for: a callable is called.

    Raises:
        ImageError: the callable raised what is no error of ours: it may be anybody's.
    """
    if not callable(source):
        return source
    try:
        return source()
    except MatryoshkaError:
        raise
    except Exception as error:
        raise ImageError(f"a callable must make its picture, was: {type(error).__name__}: {error}; mend it") from error


@dataclass(frozen=True)
class Example:
    """A question with its gold answers.

    `image` is one source of a picture, or a tuple of them: several pictures, or none where the question stands without.
    `group` names the picture: questions about one picture share it, and splits and bootstraps never part them.
    `dataset` is the benchmark or family; `metric` the rule by which an answer is scored; `meta` whatever else the
    source knew.
    """

    id: str
    image: Source | tuple[Source, ...]
    question: str
    answers: tuple[str, ...]
    group: str
    dataset: str
    choices: tuple[str, ...] | None = None
    metric: str = "exact"
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> tuple[Source, ...]:
        """The sources of all its pictures, in order, unopened."""
        return self.image if isinstance(self.image, tuple) else (self.image,)

    def pictures(self) -> tuple[Path | str | Image.Image, ...]:
        """All its pictures, in order, each as `answer()` takes it."""
        return tuple(drawn(source) for source in self.images)

    def picture(self) -> Path | str | Image.Image:
        """What `answer()` takes as its image; an error where the pictures are several or none."""
        if len(self.images) != 1:
            raise DataError(
                f"example {self.id!r} must have one picture to be asked for it, was: {len(self.images)}; use pictures()"
            )
        return self.pictures()[0]
