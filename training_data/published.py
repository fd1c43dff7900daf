"""The per-scale tables that MQT and M3 published, and what they imply for a router.

Scores of real 7B models at every m: hulls, what knowing the data set alone would earn, M3's oracle under both charges.
Knows printed numbers. Runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from encoders.cost import LanguageShape, VisionShape, answer_cost
from encoders.errors import DataError
from training_data.curves import Curve, hull, slope_merge

_CLIP_L_336 = VisionShape(image_side=336, patch_side=14, width=1024, mlp_width=4096, layers=24)
_VICUNA_7B = LanguageShape(
    width=4096, mlp_width=11008, layers=32, heads=32, kv_heads=32, head_width=128, vocabulary=32000
)
_TEXT_TOKENS = 55  # reproduces MQT's figure 1
_CONNECTOR_FLOPS = 2 * 576 * (1024 * 4096 + 4096**2)  # LLaVA's two-layer projector; MQT's transformer costs less still
_FULL_MARKS = {"MME-P": 2000.0, "MME-C": 800.0}  # points; everything else is printed in percent


@dataclass(frozen=True)
class PublishedTable:
    """One model's scores at every m, as printed.

    Attributes:
        source: paper and table.
        grids: pictures that pass the tower and hold m tokens each (LLaVA-NeXT: a thumbnail and 2 x 2 tiles).
        m: ascending, per grid.
        printed: per data set one score per m, in percent; MME in points (perception of 2,000, cognition of 800).
        oracle: per data set M3's oracle, (mean m, score in percent), a never-solved sample charged the smallest m.
    """

    model: str
    source: str
    grids: int
    m: tuple[int, ...]
    printed: Mapping[str, tuple[float, ...]]
    oracle: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def score(self) -> np.ndarray:
        """(data sets, k) in [0, 1]."""
        marks = [_FULL_MARKS.get(name, 100.0) for name in self.printed]
        return np.array(list(self.printed.values())) / np.array(marks)[:, None]

    @property
    def tflops(self) -> np.ndarray:
        """(k,) tower, connector and prefill of one question of 55 text tokens; newline tokens are left out."""
        fixed = (self.grids - 1) * (_CLIP_L_336.flops() + _CONNECTOR_FLOPS) / 1e12
        parts = (_CLIP_L_336, _CONNECTOR_FLOPS, _VICUNA_7B)
        return np.array([fixed + answer_cost(*parts, m * self.grids, _TEXT_TOKENS, 1, 2).tflops for m in self.m])

    def hulls(self) -> dict[str, Curve]:
        """F over m of every data set."""
        return {name: hull(np.array(self.m), row) for name, row in zip(self.printed, self.score, strict=True)}

    def fixed(self, cost: np.ndarray | None = None) -> Curve:
        """F of all data sets in equal parts, over m or another cost (k,) per arm."""
        return hull(np.array(self.m) if cost is None else cost, self.score.mean(axis=0))

    def identity(self, cost: np.ndarray | None = None) -> Curve:
        """F_D: one m per data set, in equal parts, over m or another cost (k,) per arm."""
        costs = np.array(self.m, float) if cost is None else cost
        return slope_merge(self.score, costs).curve(self.score, costs)

    def oracle_floor(self) -> Curve:
        """A curve that the oracle O over m cannot lie below: fixed arms and M3's oracle point mixed per data set.

        Raises:
            DataError: the paper printed no oracle for these data sets.
        """
        self._need_oracle()
        points = np.array([self.oracle[name] for name in self.printed])
        score = np.column_stack([self.score, points[:, 1] / 100])
        cost = np.column_stack([np.tile(np.array(self.m, float), (len(score), 1)), points[:, 0]])
        return slope_merge(score, cost).curve(score, cost)

    def oracle_readings(self) -> dict[str, OracleReading]:
        """M3's oracle under both charges. Graded metrics (TextVQA, DocVQA) are read as right or wrong: approximate.

        Raises:
            DataError: the paper printed no oracle for these data sets.
        """
        self._need_oracle()
        found = {}
        for name, row in zip(self.printed, self.score.tolist(), strict=True):
            mean_m, solved = self.oracle[name][0], self.oracle[name][1] / 100
            least, most = self.m[0], self.m[-1]
            later = solved - row[0]
            found[name] = OracleReading(
                score=solved,
                headroom=solved - max(row),
                rise=row[-1] - row[0],
                cheapest=mean_m,
                solvable=(mean_m - least * (1 - solved)) / solved,
                later=(mean_m - least * (1 - later)) / later,
                dearest=mean_m + (1 - solved) * (most - least),
            )
        return found

    def _need_oracle(self) -> None:
        if missing := [name for name in self.printed if name not in self.oracle]:
            raise DataError(
                f"an oracle must be printed for every data set, was: none for {missing[0]} in {self.source}"
            )


@dataclass(frozen=True)
class OracleReading:
    """What one printed oracle point says; scores in [0, 1], the rest mean m.

    Attributes:
        score: share of samples that some m solves.
        headroom: that, above the best fixed m.
        rise: largest m above smallest m; where it is near 0 the whole headroom is flips.
        cheapest: never-solved samples charged the smallest m, as printed.
        solvable: over samples that some m solves.
        later: over samples that only a larger m than the smallest solves.
        dearest: never-solved samples charged the largest m.
    """

    score: float
    headroom: float
    rise: float
    cheapest: float
    solvable: float
    later: float
    dearest: float


MQT = PublishedTable(
    model="MQT-LLaVA 7B",
    source="MQT (arXiv 2405.19315), 11 tasks; m other than 2, 36 and 256 (and MME-C, MMMU) are read off its figure",
    grids=1,
    m=(2, 4, 8, 16, 36, 64, 144, 256),
    printed={
        "VizWiz": (48.5, 49.4, 49.4, 49.8, 51.0, 51.5, 52.0, 53.1),
        "ScienceQA": (65.0, 65.1, 66.2, 67.5, 66.8, 67.0, 67.5, 67.6),
        "GQA": (50.8, 53.0, 55.5, 57.6, 58.8, 60.0, 61.4, 61.6),
        "MMBench": (54.4, 56.5, 58.6, 61.9, 63.4, 63.5, 64.4, 64.3),
        "MME-P": (1144.0, 1176, 1282, 1408, 1416.3, 1464, 1446, 1434.5),
        "MME-C": (269, 296.8, 323.6, 349.2, 349.3, 352.9, 351.8, 353.6),
        "POPE": (74.5, 77.6, 79.4, 80.8, 81.9, 83.6, 83.9, 84.4),
        "VQAv2": (61.0, 64.1, 67.2, 71.1, 73.7, 75.3, 76.4, 76.8),
        "MMMU": (32.5, 32.8, 33.1, 33.6, 34.4, 34.4, 34.4, 34.8),
        "LLaVA-W": (41.7, 44.3, 51.4, 55.2, 59.6, 59.4, 61.4, 64.6),
        "MM-Vet": (19.5, 20.2, 21.3, 25.3, 27.8, 28.9, 29.9, 29.8),
    },
)

M3_LLAVA = PublishedTable(
    model="LLaVA-1.5-7B-M3",
    source="M3 (arXiv 2405.17430), table 1",
    grids=1,
    m=(1, 9, 36, 144, 576),
    printed={
        "MMBench": (59.5, 63.1, 64.8, 66.4, 65.9),
        "GQA": (52.6, 58.0, 60.3, 61.3, 61.9),
        "POPE": (78.4, 83.4, 85.5, 87.0, 87.4),
        "VizWiz": (49.4, 51.9, 52.8, 53.1, 54.9),
        "SEED": (50.1, 55.4, 58.0, 59.7, 60.6),
    },
)

M3_NEXT = PublishedTable(
    model="LLaVA-NeXT-7B-M3",
    source="M3 (arXiv 2405.17430), table 2",
    grids=5,
    m=(1, 9, 36, 144, 576),
    printed={
        "TextVQA": (38.92, 51.97, 58.71, 62.61, 63.13),
        "AI2D": (64.57, 66.77, 67.36, 68.07, 66.71),
        "ChartQA": (31.04, 42.00, 50.24, 57.04, 58.96),
        "DocVQA": (31.63, 43.52, 55.94, 66.48, 72.61),
        "MMBench": (62.97, 67.35, 68.56, 69.50, 67.96),
        "POPE": (83.38, 86.17, 87.29, 87.67, 87.20),
        "ScienceQA": (71.19, 71.85, 72.11, 72.32, 72.46),
        "MMMU": (34.8, 35.2, 36.8, 36.1, 34.0),
    },
    oracle={
        "TextVQA": (31.39, 70.51),
        "AI2D": (11.54, 76.36),
        "ChartQA": (41.78, 70.76),
        "DocVQA": (64.09, 81.73),
        "MMBench": (8.90, 74.35),
        "POPE": (6.08, 94.29),
        "ScienceQA": (7.43, 76.07),
        "MMMU": (22.85, 50.44),
    },
)

M3_VIDEO = PublishedTable(
    model="LLaVA-NeXT-7B-M3, video",
    source="M3 (arXiv 2405.17430), table 3",
    grids=5,
    m=(1, 9, 36, 144, 576),
    printed={
        "MSVD": (73.5, 75.8, 77.9, 79.0, 78.2),
        "MSRVTT": (62.7, 63.0, 63.7, 64.5, 64.5),
        "ActivityNet": (50.8, 53.2, 55.0, 55.0, 53.9),
        "NextQA": (56.5, 59.5, 61.4, 62.6, 63.1),
        "IntentQA": (56.7, 58.7, 59.3, 59.6, 58.8),
        "EgoSchema": (36.2, 38.8, 37.6, 37.2, 36.8),
    },
)

TABLES = (MQT, M3_LLAVA, M3_NEXT, M3_VIDEO)
