"""Which columns a router reads, in which order, and what it says when one is missing."""

import numpy as np
import pytest

from encoders.errors import DataError
from router import question
from router.columns import GROUPS, TEXT, VISUAL, Columns, group_of
from router.question import QuestionScores

NAMES = ("pixels_edges", "patches_spread", "bands_4", "match_best", "pooled_0", "pooled_1", "other_1")
ARMS = ("4", "16")
QUESTIONS = [f"{'how many' if row % 3 else 'what'} dogs {row % 5}" for row in range(60)]
VALUES = np.random.default_rng(0).normal(size=(60, len(NAMES))).astype(np.float32)
TARGET = np.random.default_rng(1).random((60, 2))
ALL = (*GROUPS, "bands", "match")
READINGS = ("text_score_4", "text_score_16", "text_source_4", "text_source_16")


def fit(groups=ALL, visual=VALUES, names=NAMES):
    fold, dataset = np.arange(60) % 4, np.repeat(["a", "b", "c"], 20)
    return Columns.fit(groups, QUESTIONS, visual, names if visual is not None else (), ARMS, TARGET, dataset, fold)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (ALL, (*NAMES[:4], *question.NAMES, *READINGS)),
        (GROUPS, (*NAMES[:2], *question.NAMES, *READINGS)),
        (VISUAL, NAMES[:2]),
        (TEXT, (*question.NAMES, *READINGS)),
        (("words",), question.NAMES),
        (("text",), READINGS),
        (("bands", "pixels"), ("pixels_edges", "bands_4")),
        (("pooled", "words"), (*NAMES[4:6], *question.NAMES)),
    ],
    ids=lambda value: "+".join(value)[:40],
)
def test_columns_are_those_of_the_groups_in_the_features_order(groups, expected):
    columns, rows = fit(groups)
    assert columns.names == expected
    assert rows.shape == (60, len(expected)) and rows.dtype == np.float32
    for name in set(NAMES) & set(expected):
        assert np.array_equal(rows[:, expected.index(name)], VALUES[:, NAMES.index(name)])
    assert set(map(group_of, columns.names)) <= set(groups)


def test_a_group_is_a_name_up_to_its_first_underscore():
    assert [group_of(name) for name in ("pixels_a_b", "text_score_4", "plain", "")] == ["pixels", "text", "plain", ""]


def test_a_columns_place_holds_what_its_name_says():
    columns, _ = fit()
    rows, scores = columns(QUESTIONS, VALUES, NAMES), columns.scores(QUESTIONS).astype(np.float32)
    words = question.word_features(QUESTIONS)
    for number, name in enumerate(question.NAMES):
        assert np.array_equal(rows[:, columns.names.index(name)], words[:, number])
    for number, name in enumerate(READINGS):
        assert np.array_equal(rows[:, columns.names.index(name)], scores[:, number])


def test_rows_it_was_fitted_on_are_read_without_their_fold():
    """Words and pictures are the same, the text's readings are not those of new questions."""
    columns, fitted = fit()
    asked = columns(QUESTIONS, VALUES, NAMES)
    text = np.array([group_of(name) == "text" for name in columns.names])
    assert np.array_equal(fitted[:, ~text], asked[:, ~text])
    assert not np.array_equal(fitted[:, text], asked[:, text])
    readings = QuestionScores.fit(QUESTIONS, TARGET, np.repeat(["a", "b", "c"], 20), np.arange(60) % 4)[1]
    assert np.array_equal(fitted[:, text], readings.astype(np.float32))


def test_features_are_found_by_name():
    columns, _ = fit()
    order = np.random.default_rng(2).permutation(len(NAMES))
    moved = columns(QUESTIONS, VALUES[:, order], [NAMES[k] for k in order])
    assert np.array_equal(moved, columns(QUESTIONS, VALUES, NAMES))
    exact = columns(QUESTIONS, VALUES[:, :4], NAMES[:4])
    assert np.array_equal(exact, moved)


def test_a_row_alone_is_the_row_in_a_batch():
    columns, _ = fit()
    together = columns(QUESTIONS, VALUES, NAMES)
    for row in (0, 7, 59):
        assert np.array_equal(columns([QUESTIONS[row]], VALUES[row : row + 1], NAMES)[0], together[row])
    assert columns([], VALUES[:0], NAMES).shape == (0, len(columns.names))


def test_missing_features_are_named():
    columns, _ = fit()
    with pytest.raises(DataError, match="reads 4 visual features, was: without bands_4, match_best; sweep"):
        columns(QUESTIONS, VALUES[:, :2], NAMES[:2])
    with pytest.raises(DataError, match="without pixels_edges, patches_spread, bands_4; sweep"):
        columns(QUESTIONS, VALUES[:, 4:], NAMES[4:])
    with pytest.raises(DataError, match="reads 4 visual features, was: no visual features; sweep with pictures"):
        columns(QUESTIONS, None)


def test_without_pictures_none_are_asked_for():
    columns, rows = fit(visual=None)
    assert columns.visual == () and columns.names == (*question.NAMES, *READINGS)
    assert np.array_equal(columns(QUESTIONS, VALUES, NAMES), columns(QUESTIONS, None))
    assert rows.shape == (60, len(columns.names))


@pytest.mark.parametrize("groups", [VISUAL, ALL], ids=["pictures alone", "all"])
def test_every_question_needs_its_row_of_features(groups):
    columns, _ = fit(groups)
    with pytest.raises(DataError, match="each of 2 questions needs its row of visual features, was: 60 rows"):
        columns(QUESTIONS[:2], VALUES, NAMES)


@pytest.mark.parametrize("unknown", ["pixel", "other", "", "Words", "text_score"])
def test_an_unknown_group_is_refused(unknown):
    with pytest.raises(DataError, match=rf"groups of columns are pixels, .*, text, .*, pooled, was: '{unknown}'"):
        fit((*GROUPS, unknown))


@pytest.mark.parametrize("case", [((), VALUES), (VISUAL, None), (("pooled",), VALUES[:, :4])], ids=str)
def test_a_router_must_read_something(case):
    groups, visual = case
    with pytest.raises(DataError, match="must read something, was: no column of"):
        fit(groups, visual, NAMES[: 0 if visual is None else visual.shape[1]])


def test_readings_of_other_arms_are_refused():
    columns, _ = fit()
    with pytest.raises(DataError, match="readings must speak of 3 arms, was: 2"):
        Columns(columns.visual, columns.words, columns.scores, ("4", "16", "64"))
