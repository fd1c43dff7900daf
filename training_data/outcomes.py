"""Outcomes: what every arm scored and cost on every example. The one thing that crosses from measuring to routing.

Knows arrays and their rules. Knows no model, no picture and no file format (those are `training_data.store` and
`training_data.tables`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from encoders.cost import is_name
from encoders.counts import finite_number
from encoders.errors import DataError, shown
from encoders.prompts import is_unicode
from training_data import store, tables

if TYPE_CHECKING:
    import pandas

_OTHERS = (".json", ".jsonl", ".tsv", ".xlsx")  # endings of files that are read, and not what SQLite would write
_ROWS = ("id", "group", "dataset", "question", "replicate", "meta")
FIRST_TOKEN = ("top1", "top2", "top3", "entropy")
_TABLES = ("score", "cost", "gold_logprob", "confidence", "text", *FIRST_TOKEN, "text_tokens", "new_tokens", "parsed")


@dataclass(frozen=True, eq=False)
class Features:
    """Visual features of n examples: `values` (n, d) float32, one name per column, and the version that made them.

    `tflops` is what making them costs for one question beside an answer, by group (a name up to its first underscore).
    """

    version: int
    names: tuple[str, ...]
    values: np.ndarray
    tflops: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        values = _frozen(np.asarray(self.values, dtype=np.float32))
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise DataError(f"features need one column per name, was: {values.shape} for {len(self.names)} names")
        if not np.isfinite(values).all():
            name = self.names[int(np.argwhere(~np.isfinite(values))[0, 1])]
            raise DataError(f"features must be finite numbers, was: NaN or infinity in column {name!r}")
        object.__setattr__(self, "values", values)

    def take(self, rows: np.ndarray) -> Features:
        """The features of some rows."""
        return replace(self, values=self.values[rows])


@dataclass(frozen=True, eq=False)
class Outcomes:
    """n examples by k arms, checked when built and read-only afterwards.

    Attributes:
        id: (n,) str; with `replicate` it names a row, and no row twice.
        group: (n,) str, the picture: splits and bootstraps never part a group.
        dataset: (n,) str, the benchmark or family.
        question: (n,) of str.
        replicate: (n,) int; 0 is the example itself, others are harmless changes of it.
        arms: k names, cheapest first.
        score: (n, k) float64 in [0, 1].
        cost: (n, k) float64, positive; of `unit`.
        m: (k,) int, visual tokens asked for, or None where arms stand for no m.
        gold_logprob: (n, k) natural log-probability of the gold answer, or None.
        confidence: (n, k) natural log-probability of the model's own answer, or None.
        text: (n, k) str, the answers, or None.
        top1, top2, top3: (n, k) natural log-probabilities of the likeliest first tokens, or None.
        entropy: (n, k) of the first token's distribution, in nats, or None.
        text_tokens: (n, k) prompt tokens beside the visual ones, or None.
        new_tokens: (n, k) tokens of the answers, their end included, or None.
        parsed: (n, k) 1 where the metric could read the answer, 0 where it counts as wrong unread, or None.
        features: visual features of the n examples, or None.
        meta: (n,) of mappings, whatever else the source knew, or None.
        unit: what costs are counted in: "tflops" from a sweep, "tokens" where m stands for it, or the user's own.
        backbone: (name, fingerprint) of the model that was measured, or None.
    """

    id: np.ndarray
    group: np.ndarray
    dataset: np.ndarray
    question: np.ndarray
    replicate: np.ndarray
    arms: tuple[str, ...]
    score: np.ndarray
    cost: np.ndarray
    m: np.ndarray | None = None
    gold_logprob: np.ndarray | None = None
    confidence: np.ndarray | None = None
    text: np.ndarray | None = None
    top1: np.ndarray | None = None
    top2: np.ndarray | None = None
    top3: np.ndarray | None = None
    entropy: np.ndarray | None = None
    text_tokens: np.ndarray | None = None
    new_tokens: np.ndarray | None = None
    parsed: np.ndarray | None = None
    features: Features | None = None
    meta: np.ndarray | None = None
    unit: str = "tflops"
    backbone: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        self._set_rows()
        self._set_arms()
        self._set_tables()

    def _set(self, name: str, value: np.ndarray) -> None:
        object.__setattr__(self, name, _frozen(value))

    def _set_rows(self) -> None:
        ids = np.asarray(self.id, dtype=np.str_)
        if ids.ndim != 1 or not len(ids):
            raise DataError(f"outcomes need at least one example, was: ids of shape {ids.shape}")
        for name in ("id", "group", "dataset", "question"):
            # questions differ in length too much for one width
            values = np.asarray(getattr(self, name), dtype=object)
            if wrong := [value for value in values.flat if not _says(value, name)]:
                raise DataError(f"{name} must be a text for every example, was: {wrong[0]!r} among {len(ids):,}")
            column = values if name == "question" else values.astype(np.str_)
            if column.shape != ids.shape:
                raise DataError(f"{name} must have one entry per example ({len(ids):,}), was: shape {column.shape}")
            self._set(name, column)
        replicate = np.asarray(self.replicate)
        if replicate.shape != ids.shape or replicate.dtype.kind not in "iu" or replicate.min() < 0:
            raise DataError(f"replicate must be {len(ids):,} whole numbers from 0 on, was: {_glance(replicate)}")
        self._set("replicate", replicate.astype(np.int64))
        named = set(zip(ids.tolist(), replicate.tolist(), strict=True))
        if len(named) < len(ids):
            seen: set[tuple[str, int]] = set()
            pairs = zip(ids.tolist(), replicate.tolist(), strict=True)
            twice = next(pair for pair in pairs if pair in seen or seen.add(pair))  # type: ignore[func-returns-value]
            raise DataError(f"id and replicate must name one row each, was twice: {twice[0]!r}, replicate {twice[1]}")
        if self.meta is not None:
            meta = np.empty(len(ids), dtype=object)
            if len(self.meta) != len(ids):
                raise DataError(f"meta must have one entry per example ({len(ids):,}), was: {len(self.meta):,}")
            if wrong := [entry for entry in self.meta if not isinstance(entry, Mapping)]:
                raise DataError(f"meta must hold mappings, was: {type(wrong[0]).__name__}")
            meta[:] = [dict(entry) for entry in self.meta]
            self._set("meta", meta)

    def _set_arms(self) -> None:
        arms = tuple(str(arm) for arm in self.arms)
        if len(arms) < 2 or len(set(arms)) < len(arms):
            raise DataError(f"outcomes need two or more arms of different names, was: {arms}")
        if odd := [arm for arm in arms if not is_name(arm)]:
            raise DataError(f"an arm's name must be printable, without spaces around it, was: {odd[0]!r}; rename it")
        if not is_name(self.unit):
            raise DataError(f"a unit must be a printable name without spaces around it, was: {self.unit!r}; rename it")
        object.__setattr__(self, "arms", arms)
        if self.m is not None:
            m = np.asarray(self.m)
            if m.shape != (len(arms),) or m.dtype.kind not in "iu" or (m < 1).any() or (np.diff(m) <= 0).any():
                raise DataError(f"m must be {len(arms)} rising whole numbers of at least 1, was: {_glance(m)}")
            self._set("m", m.astype(np.int64))

    def _set_tables(self) -> None:
        shape = len(self.id), len(self.arms)
        for name in _TABLES:
            table = getattr(self, name)
            if table is None and name not in ("score", "cost"):
                continue
            try:
                table = np.asarray(table, dtype=object if name == "text" else np.float64)
            except (TypeError, ValueError) as error:  # ragged, or no numbers
                raise DataError(
                    f"{name} must be a table of numbers, (examples, arms) = {shape}, was: {error}"
                ) from error
            if table.shape != shape:
                raise DataError(f"{name} must be (examples, arms) = {shape}, was: {table.shape}")
            if name != "text" and np.isnan(table).any():
                raise DataError(f"{name} must hold no NaN, {self._where(np.isnan(table))}")
            self._set(name, table)
        if (outside := (self.score < 0) | (self.score > 1)).any():
            raise DataError(f"scores must lie in [0, 1], {self._where(outside, self.score)}")
        if (bad := ~(np.isfinite(self.cost) & (self.cost > 0))).any():
            raise DataError(f"costs must be positive numbers, {self._where(bad, self.cost)}")
        if self.features is not None and len(self.features.values) != len(self.id):
            raise DataError(f"features must have {len(self.id):,} rows, was: {len(self.features.values):,}")

    def _where(self, wrong: np.ndarray, table: np.ndarray | None = None) -> str:
        row, arm = np.argwhere(wrong)[0]
        value = "NaN" if table is None else f"{table[row, arm]}"
        return f"was: {value} for id {str(self.id[row])!r}, arm {self.arms[arm]!r}"

    def __len__(self) -> int:
        return len(self.id)

    def __repr__(self) -> str:
        parts = f"{len(self):,} examples, {len(set(self.group.tolist())):,} groups, arms {', '.join(self.arms)}"
        return f"Outcomes({parts})"

    def select(self, rows: np.ndarray | Sequence[int]) -> Outcomes:
        """Some rows, in the given order; `rows` is a boolean mask or row numbers.

        Raises:
            DataError: no row is left; the mask is of another length, or a number of no row.
        """
        chosen, count = np.asarray(rows), len(self)
        if chosen.dtype == bool:
            if chosen.shape != (count,):
                raise DataError(f"a mask of rows must have one entry per example ({count:,}), was: {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        elif chosen.size and (chosen.dtype.kind not in "iu" or chosen.ndim != 1 or abs(chosen + 0.5).max() > count):
            raise DataError(f"rows must be whole numbers below {count:,}, or a mask, was: {_glance(chosen)}")
        chosen = chosen.astype(np.int64)
        own = {name: getattr(self, name) for name in (*_ROWS, *_TABLES)}
        taken: dict[str, Any] = {name: value[chosen] for name, value in own.items() if value is not None}
        return replace(self, **taken, features=None if self.features is None else self.features.take(chosen))

    def take_arms(self, arms: Sequence[int]) -> Outcomes:
        """The same examples with some of the arms, by number, in the given order.

        Raises:
            DataError: arms are no numbers of arms, fewer than two are left, or m would not rise.
        """
        columns = np.asarray(arms)
        if columns.ndim != 1 or columns.dtype.kind not in "iu" or not np.isin(columns, np.arange(len(self.arms))).all():
            raise DataError(f"arms must be numbers from 0 to {len(self.arms) - 1}, was: {shown(arms)}")
        own = {name: getattr(self, name) for name in _TABLES}
        taken: dict[str, Any] = {name: table[:, columns] for name, table in own.items() if table is not None}
        m = None if self.m is None else self.m[columns]
        return replace(self, **taken, arms=tuple(self.arms[arm] for arm in columns), m=m)

    def originals(self) -> Outcomes:
        """The examples themselves, replicates left out."""
        return self.select(self.replicate == 0)

    def split(
        self,
        shares: Sequence[float] = (0.6, 0.2, 0.2),
        by: Literal["group", "id", "dataset"] = "group",
        seed: int = 0,
    ) -> tuple[Outcomes, ...]:
        """Disjoint parts of about the given shares; what `by` names never straddles two.

        A key's part is a hash of (seed, key): it depends neither on the order of rows nor on what other rows there are.

        Raises:
            DataError: shares are not positive numbers that sum to 1, or a part comes out empty.
        """
        wanted = [finite_number(share) for share in shares] if isinstance(shares, Sequence | np.ndarray) else []
        if len(wanted) < 2 or not all(share > 0 for share in wanted) or abs(sum(wanted) - 1) > 1e-9:
            raise DataError(f"shares must be two or more positive numbers that sum to 1, was: {shown(shares)}")
        if by not in ("group", "id", "dataset"):
            raise DataError(f"a split goes by group, id or dataset, was: {by!r}")
        keys, back = np.unique(getattr(self, by), return_inverse=True)
        borders = np.cumsum(wanted)[:-1]
        part_of_key = np.searchsorted(borders, [_unit(seed, key) for key in keys.tolist()], side="right")
        rows = [np.flatnonzero(part_of_key[back] == part) for part in range(len(wanted))]
        if empty := [part for part, own in enumerate(rows) if not len(own)]:
            raise DataError(
                f"every part of a split needs a {by}, was: none in part {empty[0]} of {len(keys)}; give more data or "
                "larger shares"
            )
        return tuple(self.select(own) for own in rows)

    @classmethod
    def concat(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """One below the other; optional columns stay where every part has them.

        Raises:
            DataError: parts differ in arms, unit, backbone or feature version.
        """
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(part, Outcomes) for part in parts):
            raise DataError(f"concat takes a list of one or more Outcomes, was: {shown(parts)}")
        first = parts[0]
        for part in parts[1:]:
            for name in ("arms", "unit", "backbone"):
                if getattr(part, name) != getattr(first, name):
                    values = f"{getattr(first, name)} and {getattr(part, name)}"
                    raise DataError(f"outcomes are joined only with the same {name}, was: {values}")
            if (part.m is None) != (first.m is None) or not np.array_equal(part.m, first.m):  # type: ignore[arg-type]
                raise DataError(f"outcomes are joined only with the same m, was: {first.m} and {part.m}")
        joined: dict[str, Any] = {}
        for name in (*_ROWS, *_TABLES):
            columns = [getattr(part, name) for part in parts]
            joined[name] = None if any(column is None for column in columns) else np.concatenate(columns)
        return replace(first, **joined, features=_joined_features([part.features for part in parts]))

    def to_pandas(self) -> pandas.DataFrame:
        """One row per (example, arm), in the columns of `training_data.tables`; needs pandas."""
        return tables.frame(self._columns())

    def save(self, path: str | Path) -> Path:
        """Write one SQLite file (`training_data.store`), or by its ending a `.csv` or `.parquet` table.

        A table holds scores, costs and texts alone: no features, meta, nor what was read out of an answer.

        Raises:
            DataError: the file is there already, or its folder is not or cannot be written.
        """
        if not isinstance(path, str | Path):
            raise DataError(f"outcomes are saved to a path, was: {shown(path)}; give a file's name")
        path = Path(path)
        if path.suffix.lower() in _OTHERS:
            raise DataError(f"outcomes are saved as .sqlite, .csv or .parquet, was: {path.name}; name it so")
        kind = tables if tables.is_table(path) else store
        kind.write(path, self._columns())
        return path

    @classmethod
    def load(cls, path: str | Path, partial: bool = False) -> Outcomes:
        """Read what `save`, `sweep` or `import` wrote, or a table of your own (`training_data.tables`).

        Args:
            path: a SQLite file, or a table: `.csv`, `.tsv` (either with `.gz`), `.jsonl` or `.parquet`.
            partial: take what an unfinished sweep has measured so far.

        Raises:
            DataError: no such file, it breaks its format, or its sweep is unfinished.
        """
        if not isinstance(path, str | Path):
            raise DataError(f"outcomes are read from a file, was: {type(path).__name__}; give its path")
        path = Path(path)
        columns = tables.read(path) if tables.is_table(path) else store.read(path, partial)
        features = columns.pop("features", None)
        return cls(**columns, features=None if features is None else Features(*features))

    def _columns(self) -> dict[str, Any]:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.features is not None:
            columns["features"] = tuple(getattr(self.features, field.name) for field in fields(Features))
        return columns

    def digest(self) -> str:
        """sha256 over everything: two Outcomes are equal where it is. `parsed` follows from texts and metric."""
        hasher = hashlib.sha256(repr((self.arms, self.unit, self.backbone)).encode())
        for field in fields(self):
            value = getattr(self, field.name) if field.name != "parsed" else None  # saved routers know digests without
            if isinstance(value, Features):
                hasher.update(
                    repr((value.version, value.names, sorted(value.tflops.items()))).encode() + value.values.tobytes()
                )
            elif isinstance(value, np.ndarray):
                plain = value.dtype.kind in "if"
                hasher.update(field.name.encode() + (value.tobytes() if plain else repr(value.tolist()).encode()))
        return hasher.hexdigest()


def _joined_features(parts: Sequence[Features | None]) -> Features | None:
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        return None
    kinds = {(part.version, part.names) for part in there}
    if len(kinds) > 1:
        versions = sorted({part.version for part in there})
        raise DataError(f"outcomes are joined only with features of one version, was: {versions}; run features again")
    return replace(there[0], values=np.concatenate([part.values for part in there]))


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view-free copy: the caller's array may change afterwards, ours may not."""
    own = np.array(array)
    own.flags.writeable = False
    return own


def _unit(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on seed and key alone."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _says(value: object, name: str) -> bool:
    """Whether a cell says something: a question in words; a name may be a number, but not a missing one."""
    missing = value is None or (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"
    return is_unicode(value) if isinstance(value, str) else name != "question" and not missing


def _glance(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}: {np.array2string(array.ravel()[:5], separator=', ')}"
