"""One row of numbers per question: visual features, words, and linear readings of the text, in named columns.

Knows names and arrays. Knows no model, no label and no budget. A column's group is its name up to the first underscore:
what a study leaves out and an explanation speaks of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoders.errors import DataError
from router import question
from router.question import QuestionScores
from training_data.outcomes import Features

TEXT = ("words", "text")  # groups that need no picture
VISUAL = ("pixels", "patches")  # groups of encoders.features that are always worth reading
GROUPS = (*VISUAL, *TEXT)
MORE = ("bands", "match", "pooled")  # of what sweeps record; bands are read where they are nearly free (docs/log.md)


def group_of(name: str) -> str:
    """The group of a column."""
    return name.split("_", 1)[0]


@dataclass(frozen=True, eq=False)
class Columns:
    """What a router reads.

    Attributes:
        visual: names of the visual features, in order; empty where it looks at no picture.
        words: whether lengths and word lists are read.
        scores: the text's linear readings, or None.
        arms: names, for the readings' columns.
        both_ends: whether both ends of a long text are read (`question.excerpt`).
    """

    visual: tuple[str, ...]
    words: bool
    scores: QuestionScores | None
    arms: tuple[str, ...]
    both_ends: bool = True

    def __post_init__(self) -> None:
        if self.scores is not None and len(self.scores.intercept) != len(self.arms):
            raise DataError(
                f"the text's readings must speak of {len(self.arms)} arms, was: {len(self.scores.intercept)}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Every column's name, in order."""
        readings = [f"text_{kind}_{arm}" for kind in ("score", "source") for arm in self.arms]
        return (*self.visual, *(question.NAMES if self.words else ()), *(readings if self.scores else ()))

    @property
    def readings(self) -> tuple[int, ...]:
        """The columns that are the text's expected score at each arm; none where the text is not read."""
        start = len(self.visual) + (len(question.NAMES) if self.words else 0)
        return tuple(range(start, start + len(self.arms))) if self.scores else ()

    def __call__(self, questions: Sequence[str], visual: np.ndarray | None, names: Sequence[str] = ()) -> np.ndarray:
        """Rows (n, columns) float32.

        Args:
            questions: n texts.
            visual: (n, d) features whose columns are called `names`; None where no picture is looked at.
            names: of the features.

        Raises:
            DataError: a feature it was fitted on is missing, or there are not as many rows as questions.
        """
        texts = list(dict.fromkeys(questions))  # people ask the same of many pictures: each text is read once
        place = dict(zip(texts, range(len(texts)), strict=True))
        row = np.array([place[text] for text in questions], np.int64)
        readings = None
        if self.scores is not None:
            readings = self.scores([question.excerpt(text, self.both_ends) for text in texts])[row]
        words = question.word_features(texts, self.both_ends)[row] if self.words else None
        return self._joined(len(questions), visual, names, words, readings)

    def of(self, questions: Sequence[str], features: Features | None) -> np.ndarray:
        """Rows of questions about pictures with these features; None where there are none."""
        visual, names = (None, ()) if features is None else (features.values, features.names)
        return self(questions, visual, names)

    def _joined(
        self,
        rows: int,
        visual: np.ndarray | None,
        names: Sequence[str],
        words: np.ndarray | None,
        readings: np.ndarray | None,
    ) -> np.ndarray:
        parts = [] if not self.visual else [self._looked_up(visual, names, rows)]
        parts += [part for part in (words, readings) if part is not None]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _looked_up(self, visual: np.ndarray | None, names: Sequence[str], rows: int) -> np.ndarray:
        place = {name: column for column, name in enumerate(names)}
        missing = [name for name in self.visual if name not in place]
        if visual is None or missing:
            what = "no visual features" if visual is None else f"without {', '.join(missing[:3])}"
            raise DataError(f"this router reads {len(self.visual)} visual features, was: {what}; sweep with pictures")
        if len(visual) != rows:
            raise DataError(f"each of {rows:,} questions needs its row of visual features, was: {len(visual):,} rows")
        return visual if tuple(names) == self.visual else visual[:, [place[name] for name in self.visual]]

    @classmethod
    def fit(
        cls,
        groups: Sequence[str],
        questions: Sequence[str],
        visual: np.ndarray | None,
        names: Sequence[str],
        arms: Sequence[str],
        target: np.ndarray,
        dataset: np.ndarray,
        fold: np.ndarray,
    ) -> tuple[Columns, np.ndarray]:
        """(the columns of these groups, the rows they were fitted on, each read without its own fold).

        Raises:
            DataError: an unknown group, or none that there is data for.
        """
        if unknown := sorted(set(groups) - {*GROUPS, *MORE}):
            raise DataError(f"groups of columns are {', '.join((*GROUPS, *MORE))}, was: {unknown[0]!r}")
        chosen = tuple(name for name in names if group_of(name) in groups) if visual is not None else ()
        scores, readings = None, None
        if "text" in groups:
            told = [question.excerpt(text) for text in questions]
            scores, readings = QuestionScores.fit(told, target, dataset, fold)
        columns = cls(chosen, "words" in groups, scores, tuple(arms))
        if not columns.names:
            raise DataError(f"a router must read something, was: no column of {', '.join(groups)}; sweep with pictures")
        words = question.word_features(questions) if columns.words else None
        return columns, columns._joined(len(questions), visual, names, words, readings)
