"""One question about one picture, with what counts as right.

Knows no benchmark, no model and no score. The picture stays unopened until somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Example:
    """A question with its gold answers.

    `image` is a path, a PIL picture, or a callable that makes one. `group` names the picture: questions about one
    picture share it, and splits and bootstraps never part them. `dataset` is the benchmark or family; `metric` the rule
    by which an answer is scored; `meta` whatever else the source knew.
    """

    id: str
    image: Path | str | Image.Image | Callable[[], Image.Image]
    question: str
    answers: tuple[str, ...]
    group: str
    dataset: str
    choices: tuple[str, ...] | None = None
    metric: str = "exact"
    meta: Mapping[str, Any] = field(default_factory=dict)

    def picture(self) -> Path | str | Image.Image:
        """What `answer()` takes as its image."""
        return self.image() if callable(self.image) else self.image
