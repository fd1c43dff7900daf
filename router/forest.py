"""Decision trees as plain arrays: grown by LightGBM or scikit-learn, read by NumPy alone.

A router outlives the libraries that grew it, and may come from strangers: LightGBM's text parser can kill the process
on a damaged file and pickles run code, while arrays are checked and cannot do either. One row goes through all trees
at once, which is also quicker than scikit-learn's forests for a single question.
Knows nodes. Knows no picture, no question and no budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from encoders.errors import DataError

_LEVELS = 4  # that are gone down before trees which have ended are left out
_CHUNK = 2**17  # (row, tree) pairs in flight at once: a batch of any size needs the same memory


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees whose leaves hold vectors; a row's prediction is the sum of the leaves it falls into.

    Attributes:
        feature: (nodes,) int32, the column a node looks at.
        threshold: (nodes,) float32; a value not above it goes to the next node. NaN at a leaf, which nothing leaves.
        other: (nodes,) int32, where larger values go: behind the next node, or nowhere else at a leaf.
        value: (nodes, k) float32, the leaf's vector; at an inner node the mean of those below, which tells how much
            each split moved a prediction.
        root: (trees,) int32.
        columns: how many columns rows have.

    Raises:
        DataError: arrays contradict each other; whatever they hold, reading them ends and stays inside them.
    """

    feature: np.ndarray
    threshold: np.ndarray
    other: np.ndarray
    value: np.ndarray
    root: np.ndarray
    columns: int

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        kinds = {"feature": "i", "threshold": "f", "other": "i", "value": "f", "root": "i"}
        for name, kind in kinds.items():
            array = getattr(self, name)
            if array.dtype.kind != kind or array.ndim != 1 + (name == "value") or len(array) != nodes:
                if name == "root" and array.dtype.kind == kind and array.ndim == 1:
                    continue
                raise DataError(f"a forest's {name} needs one entry per node ({nodes}), was: {_glance(array)}")
        own, leaf = np.arange(nodes), np.isnan(self.threshold)
        if (self.other >= nodes).any() or np.where(leaf, self.other != own, self.other <= own + 1).any():
            raise DataError("a node's children must stand behind it in the forest, a leaf has none, was: otherwise")
        if ((self.root < 0) | (self.root >= nodes)).any():
            raise DataError(f"a forest's roots must be among its {nodes} nodes, was: {self.root.max()}")
        if ((self.feature < 0) | (self.feature >= self.columns)).any():
            raise DataError(f"a forest looks at columns 0 to {self.columns - 1}, was: {self.feature.max()}")
        if not np.isfinite(self.value).all():
            raise DataError("a forest must hold finite values, was: NaN or infinity")

    @property
    def outputs(self) -> int:
        """k, the length of a prediction."""
        return int(self.value.shape[1])

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Sums of leaves (n, k) float64 for rows (n, columns)."""
        table = self._checked(rows)
        result = np.zeros((len(table), self.outputs))
        step = max(1, _CHUNK // max(1, len(self.root)))
        for start in range(0, len(table), step):
            leaves = self._leaves(table[start : start + step])
            result[start : start + step] = self.value.take(leaves, axis=0).sum(axis=1, dtype=np.float64)
        return result

    def _leaves(self, table: np.ndarray) -> np.ndarray:
        """The leaf of every row in every tree: (n, trees)."""
        flat, width = table.ravel(), table.shape[1]
        feature, other, root = self._places
        node = np.tile(root, len(table))
        slot, here = np.arange(node.size), node
        base = np.repeat(np.arange(len(table)) * width, len(self.root))
        while here.size:
            for _ in range(_LEVELS):  # a leaf leads to itself, so that going on is right wherever it is not needed
                goes_on = flat.take(base + feature.take(here)) <= self.threshold.take(here)
                here = np.where(goes_on, here + 1, other.take(here))
            node[slot] = here
            inner = other.take(here) != here
            slot, here, base = slot[inner], here[inner], base[inner]
        return node.reshape(len(table), len(self.root))

    @cached_property
    def _places(self) -> tuple[np.ndarray, ...]:
        """feature, other and root as NumPy looks them up without a cast."""
        return tuple(array.astype(np.intp) for array in (self.feature, self.other, self.root))

    def contributions(self, row: np.ndarray) -> np.ndarray:
        """How much each column moved one row's prediction from the trees' means: (columns, k).

        Every split on the row's way credits its column with the change of mean it made (Saabas 2014); with the sum of
        the roots' values they add up to the prediction.
        """
        flat = self._checked(np.asarray(row)[None])[0]
        moved = np.zeros((self.columns, self.outputs))
        node = self.root
        while (node := node[self.other[node] != node]).size:
            there = np.where(flat[self.feature[node]] <= self.threshold[node], node + 1, self.other[node])
            np.add.at(moved, self.feature[node], self.value[there].astype(np.float64) - self.value[node])
            node = there
        return moved

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        table = np.ascontiguousarray(rows, dtype=np.float32)
        if table.ndim != 2 or table.shape[1] != self.columns:
            raise DataError(f"this forest reads rows of {self.columns} columns, was: shape {table.shape}")
        return table

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, as `from_arrays` takes them."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "columns"}
        return named | {"columns": np.array(self.columns)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Forest:
        """A forest from `arrays()`, checked as any other.

        Raises:
            DataError: an array is missing, or they contradict each other.
        """
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in arrays]:
            raise DataError(f"a forest is stored as the arrays {names}, missing: {missing}")
        values: dict[str, Any] = {name: arrays[name] for name in names}
        return cls(**values | {"columns": int(values["columns"].item())})

    @classmethod
    def joined(cls, parts: Sequence[Forest]) -> Forest:
        """All trees of forests over the same columns and outputs; predictions add up."""
        if len({(part.columns, part.outputs) for part in parts}) != 1:
            raise DataError("forests are joined over the same columns and outputs, was: different ones or none")
        starts = np.cumsum([0, *(len(part.feature) for part in parts)])[:-1].astype(np.int32)

        def together(name: str, places: bool = False) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if places:
                arrays = [array + start for array, start in zip(arrays, starts, strict=True)]
            return np.concatenate(arrays)

        return cls(
            together("feature"),
            together("threshold"),
            together("other", places=True),
            together("value"),
            together("root", places=True),
            parts[0].columns,
        )

    @classmethod
    def empty(cls, columns: int, outputs: int) -> Forest:
        """A forest without trees: it predicts zero."""
        none = np.zeros(0, np.int32)
        return cls(none, np.zeros(0, np.float32), none, np.zeros((0, outputs), np.float32), none, columns)


def from_lightgbm(booster: Any, direction: np.ndarray) -> Forest:
    """The trees of a LightGBM booster of one output, which then speaks along a vector `direction` (k,)."""
    trees = []
    for info in booster.dump_model()["tree_info"]:
        nodes: list[tuple[int, float, int, float]] = []
        _walk(info["tree_structure"], nodes)
        feature, threshold, other, value = (np.array(column) for column in zip(*nodes, strict=True))
        trees.append(
            Forest(
                feature.astype(np.int32),
                _rounded_down(threshold),
                other.astype(np.int32),
                (value[:, None] * direction).astype(np.float32),
                np.zeros(1, np.int32),
                booster.num_feature(),
            )
        )
    return Forest.joined(trees) if trees else Forest.empty(booster.num_feature(), len(direction))


def _walk(tree: Mapping[str, Any], nodes: list[tuple[int, float, int, float]]) -> None:
    """Append a tree's nodes, each before its children and the left one of these first."""
    place = len(nodes)
    if "split_feature" not in tree:
        nodes.append((0, np.nan, place, tree["leaf_value"]))
        return
    nodes.append((0, 0.0, 0, 0.0))
    _walk(tree["left_child"], nodes)
    nodes[place] = (tree["split_feature"], tree["threshold"], len(nodes), tree["internal_value"])
    _walk(tree["right_child"], nodes)


def from_sklearn(forest: Any, directions: np.ndarray) -> Forest:
    """The mean of a scikit-learn forest of q outputs, each of which speaks along its row of `directions` (q, k)."""
    parts, share = [], 1 / len(forest.estimators_)
    for estimator in forest.estimators_:
        tree = estimator.tree_  # nodes stand as they were grown: the left child right behind its parent
        own, leaf = np.arange(tree.node_count, dtype=np.int32), tree.children_left < 0
        if (tree.children_left[~leaf] != own[~leaf] + 1).any():
            raise DataError("scikit-learn's trees must be grown depth first, was: otherwise; set no max_leaf_nodes")
        parts.append(
            Forest(
                np.where(leaf, 0, tree.feature).astype(np.int32),
                _rounded_down(np.where(leaf, np.nan, tree.threshold)),
                np.where(leaf, own, tree.children_right).astype(np.int32),
                (tree.value[:, :, 0] @ directions * share).astype(np.float32),
                np.zeros(1, np.int32),
                forest.n_features_in_,
            )
        )
    return Forest.joined(parts)


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 not above each threshold: float32 values fall on the same side of both."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _glance(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"
