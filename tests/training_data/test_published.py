"""The published tables are printed right, and what they imply is what was worked out beside them."""

import numpy as np
import pytest

from encoders.errors import DataError
from training_data.curves import gap_recovered
from training_data.published import M3_LLAVA, M3_NEXT, M3_VIDEO, MQT, TABLES


# MQT paper (arXiv 2405.19315), average over 11 tasks with MME-P / 20 and MME-C / 8, as its figure prints it.
@pytest.mark.parametrize(
    ("m", "average"), [(2, 49.0), (4, 50.8), (8, 53.3), (16, 56.1), (36, 57.4), (64, 58.3), (144, 58.9), (256, 59.4)]
)
def test_mqts_averages_come_out_as_published(m, average):
    assert 100 * MQT.score.mean(axis=0)[MQT.m.index(m)] == pytest.approx(average, abs=0.05001)


@pytest.mark.parametrize("published", TABLES, ids=lambda published: published.model)
def test_every_table_is_whole(published):
    assert published.score.shape == (len(published.printed), len(published.m))
    assert ((published.score > 0.1) & (published.score < 1)).all()
    assert list(published.m) == sorted(published.m)


# M3 paper (arXiv 2405.17430), table 2 recomputed: mean m over solvable samples, never-solved charged 576, best fixed.
M3_TABLE_2 = {
    "TextVQA": (44, 201, 7.4, 24.2),
    "ChartQA": (59, 210, 11.8, 27.9),
    "DocVQA": (78, 169, 9.1, 41.0),
    "MMBench": (12, 156, 4.9, 5.0),
    "AI2D": (15, 148, 8.3, 2.1),
    "POPE": (6, 39, 6.6, 3.8),
    "ScienceQA": (10, 145, 3.6, 1.3),
    "MMMU": (44, 308, 13.6, -0.8),
}


@pytest.mark.parametrize("name", M3_TABLE_2)
def test_m3s_oracle_under_both_charges(name):
    solvable, dearest, headroom, rise = M3_TABLE_2[name]
    reading = M3_NEXT.oracle_readings()[name]
    assert reading.cheapest == M3_NEXT.oracle[name][0]
    assert (reading.solvable, reading.dearest) == (pytest.approx(solvable, abs=1), pytest.approx(dearest, abs=1))
    assert 100 * reading.headroom == pytest.approx(headroom, abs=0.06)
    assert 100 * reading.rise == pytest.approx(rise, abs=0.06)


def test_samples_solved_only_later_need_48_to_141_tokens():
    later = [reading.later for reading in M3_NEXT.oracle_readings().values()]
    assert (min(later), max(later)) == (pytest.approx(48, abs=0.5), pytest.approx(141, abs=0.5))


def test_published_ladders_are_not_monotone_and_hulls_drop_what_does_not_pay():
    hulls = M3_NEXT.hulls()
    assert hulls["MMMU"].cost.tolist() == [1, 36]
    assert hulls["AI2D"].cost[-1] == hulls["MMBench"].cost[-1] == hulls["POPE"].cost[-1] == 144
    assert M3_VIDEO.hulls()["EgoSchema"].cost.tolist() == [1, 9]


# One m per data set, in equal parts, against one m for all: mean m at 99 % and 100 % of the best fixed m.
@pytest.mark.parametrize(
    ("published", "at_99", "at_100"),
    [
        (MQT, (129.8, 69.4), (256, 127.9)),
        (M3_LLAVA, (142.1, 132.3), (576, 388.8)),
        (M3_NEXT, (134.6, 72.0), (576, 117.5)),
        (M3_VIDEO, (33.4, 20.7), (144, 59.3)),
    ],
    ids=lambda value: getattr(value, "model", ""),
)
def test_knowing_the_data_set_alone_saves_tokens(published, at_99, at_100):
    fixed, identity = published.fixed(), published.identity()
    for share, expected in ((0.99, at_99), (1.0, at_100)):
        wanted = share * fixed.score[-1] - 1e-12
        assert (fixed.reach(wanted), identity.reach(wanted)) == pytest.approx(expected, abs=0.06)


def test_m3s_oracle_leaves_most_of_its_gap_to_what_the_data_set_does_not_say():
    floor = M3_NEXT.oracle_floor()
    assert floor.cost[-1] == pytest.approx(np.mean([tokens for tokens, _ in M3_NEXT.oracle.values()]))
    assert floor.score[-1] == pytest.approx(0.743, abs=5e-4)
    gap = gap_recovered(M3_NEXT.identity(), M3_NEXT.fixed(), floor)
    assert gap.recovered == pytest.approx(0.2025, abs=5e-4)
    with pytest.raises(DataError, match="none for VizWiz"):
        MQT.oracle_floor()


def test_the_whole_cost_spans_far_less_than_the_tokens():
    # peers-and-metrics.md 2.3: 7B models with 60 text tokens, whole answers (LLaVA-NeXT without its newline tokens)
    for published, span in ((MQT, 3.8), (M3_LLAVA, 7.4), (M3_NEXT, 15)):
        assert published.tflops[-1] / published.tflops[0] == pytest.approx(span, rel=0.07)
