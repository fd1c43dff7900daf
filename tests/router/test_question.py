"""What a question's words say: tokens, counts, and readings equal to scikit-learn's and blind to their own fold."""

import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import FeatureUnion, make_pipeline

from encoders.errors import DataError
from router import question
from router.question import NAMES, QuestionScores, excerpt, grams, tokens, word_features

WORDS = "what who where how many colour number is the a dog cat sign left of in this picture red written there".split()


def make_questions(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) + "?" * (row % 2) for row in range(count)]


def make_fit(count=240, sources=3, seed=0):
    """(questions, y (n, 2), dataset, fold): "number" and "dog" say something, the data set is a matter of length."""
    questions = make_questions(count, seed)
    rng = np.random.default_rng(seed + 1)
    chance = np.array([[0.3 + 0.5 * ("number" in q), 0.5 + 0.3 * ("dog" in q)] for q in questions])
    y = (rng.random((count, 2)) < chance).astype(float)
    dataset = np.array([f"d{min(len(q.split()) // 3, sources - 1)}" for q in questions])
    return questions, y, dataset, rng.permutation(count) % 4


# ---- words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What's the Colour?", ["what's", "the", "colour", "?"]),
        ("", []),
        ("  \n\t ", []),
        ("a_b-c", ["a", "b", "c"]),
        ("is 12.5 > 3?", ["is", "12", "5", "3", "?"]),
        ("??", ["?", "?"]),
        ("how many 🐕🐕 dogs😀?", ["how", "many", "dogs", "?"]),
        ("מה הצבע?", ["מה", "הצבע", "?"]),
        ("كم عدد القطط؟", ["كم", "عدد", "القطط"]),
        ("\u202eis it\u202c red", ["is", "it", "red"]),
        ("red\0dog", ["red", "dog"]),
        ("\ud800 lone", ["lone"]),
        ("ÄPFEL", ["äpfel"]),
    ],
    ids=lambda value: None if isinstance(value, list) else ascii(value)[:24],
)
def test_tokens_are_words_in_lower_case_between_two_marks(text, expected):
    assert tokens(text) == ["<s>", *expected, "</s>"]


def test_of_a_long_text_both_ends_are_read():
    assert excerpt("is it?" * 130) == "is it?" * 130
    long = "You are a helpful assistant. " * 1000 + "Is it a dog?"
    assert excerpt(long) == long[:400] + "\n" + long[-400:]
    assert excerpt(long, both_ends=False) == long[:400]
    counting, reading = ("Same preamble. " * 100 + end for end in ("How many are there?", "Read the word."))
    assert (word_features([counting]) != word_features([reading])).any()
    one, other = word_features([counting, reading], both_ends=False)  # as routers of formats 1 and 2 do
    assert np.flatnonzero(one != other).tolist() == [NAMES.index("words_log_characters")]


def test_grams_are_runs_of_one_to_three_tokens():
    assert grams("is it") == ["<s>", "is", "it", "</s>", "<s> is", "is it", "it </s>", "<s> is it", "is it </s>"]
    assert grams("") == ["<s>", "</s>", "<s> </s>"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", {}),
        ("Is the red dog left or right?", {"asks_yes_no": 1, "asks_which_of": 1, "colour": 1, "place": 2, "words": 8}),
        ("isn't it", {"asks_yes_no": 1, "words": 2}),
        ("What is it?", {"entity": 1, "words": 4}),
        ("how many of 12 cats", {"digits": 1, "counting": 1, "words": 5}),
        ("what number is written", {"entity": 1, "reading": 2, "counting": 1, "words": 4}),
        ("which is larger", {"entity": 1, "compare": 1, "words": 3}),
        ("pick\nA. cat\n(B) dog\n  C: cow\nD) hen\nE.g. no", {"options": 4, "words": 12}),
        ("A. cat\n\n \nB. dog", {"options": 2, "words": 4}),
        ("Vitamin A. is it\nAB. x\na. y", {"words": 8}),
        ("how many" + " " * 1000 + "red 7" + " " * 1000 + "left", {"counting": 1, "place": 1, "words": 3}),
        ("🐕\0", {}),
    ],
    ids=lambda value: None if isinstance(value, dict) else ascii(value)[:24],
)
def test_word_features_by_hand(text, told):
    wanted = dict.fromkeys(NAMES, 0.0) | {"words_log_characters": np.log1p(len(text))}
    wanted |= {f"words_{name}": value for name, value in told.items() if name != "words"}
    wanted["words_log_words"] = np.log1p(told.get("words", 0))
    found = dict(zip(NAMES, word_features([text])[0].tolist(), strict=True))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_options_behind_the_first_400_characters_are_counted():
    long = "x " * 500 + "\nA. one\nB. two\n"
    assert word_features([long])[0, NAMES.index("words_options")] == 2


@pytest.mark.parametrize("filler", ["\n", " ", "A", "(", "\n ", " \n", "\r\n", "A.", "?"])
def test_a_hundred_thousand_characters_take_no_time(filler):
    """Options were once looked for by ^\\s*, which from every empty line reads all that follow: a minute."""
    start = time.perf_counter()
    word_features([filler * (100_000 // len(filler))])
    assert time.perf_counter() - start < 2


def test_word_features_are_alike_alone_and_in_a_batch_and_may_be_none():
    questions = make_questions(20)
    together = word_features(questions)
    assert together.dtype == np.float32 and together.shape == (20, len(NAMES))
    assert np.array_equal(together, np.concatenate([word_features([one]) for one in questions]))
    assert word_features([]).shape == (0, len(NAMES))


# ---- readings


def vectorizer():
    """scikit-learn's own n-grams of our tokens, words, pairs and triples each of a length of their own."""
    options = {"token_pattern": None, "lowercase": False, "min_df": 3, "sublinear_tf": True}
    orders = [(str(n), TfidfVectorizer(tokenizer=tokens, ngram_range=(n, n), **options)) for n in (1, 2, 3)]
    return FeatureUnion(orders, transformer_weights={"1": 1.0, "2": 0.5, "3": 0.3})


def best_ridge(matrix, y, split):
    """(strength, out-of-fold readings) of scikit-learn's ridge regression with the least error out of fold."""
    tried = {s: cross_val_predict(Ridge(s, tol=1e-8), matrix, y, cv=split) for s in question._STRENGTHS}
    strength = min(tried, key=lambda s: ((tried[s] - y) ** 2).sum())
    return strength, tried[strength]


def level_and_rest(y):
    level = np.repeat(y.mean(axis=1, keepdims=True), y.shape[1], axis=1)
    return level, y - level


@pytest.mark.parametrize("sources", [2, 3])
def test_readings_are_those_of_scikit_learns_pipelines(sources):
    questions, y, dataset, fold = make_fit(sources=sources)
    scores, _ = QuestionScores.fit(questions, y, dataset, fold)
    matrix, split = vectorizer().fit_transform(questions), PredefinedSplit(fold)
    ridges = [
        make_pipeline(vectorizer(), Ridge(best_ridge(matrix, part, split)[0], tol=1e-8)).fit(questions, part)
        for part in level_and_rest(y)
    ]
    logistic = make_pipeline(vectorizer(), LogisticRegression(C=10.0, max_iter=300)).fit(questions, dataset)
    new = [*make_questions(60, seed=9), "", "🐕", "number number number dog", "nothing known", "dog " * 1000]
    means = np.stack([y[dataset == name].mean(axis=0) for name in np.unique(dataset)])
    found = scores(new)
    np.testing.assert_allclose(found[:, :2], sum(ridge.predict(new) for ridge in ridges), atol=1e-6, rtol=0)
    np.testing.assert_allclose(found[:, 2:], logistic.predict_proba(new) @ means, atol=1e-9, rtol=0)


def test_out_of_fold_readings_are_scikit_learns_too():
    questions, y, dataset, fold = make_fit()
    _, readings = QuestionScores.fit(questions, y, dataset, fold)
    matrix, split = vectorizer().fit_transform(questions), PredefinedSplit(fold)
    best = sum(best_ridge(matrix, part, split)[1] for part in level_and_rest(y))
    np.testing.assert_allclose(readings[:, :2], best, atol=1e-6, rtol=0)
    model = LogisticRegression(C=10.0, max_iter=300)
    for number in range(4):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        chances = model.fit(matrix[inside], dataset[inside]).predict_proba(matrix[outside])
        means = np.stack([y[inside][dataset[inside] == name].mean(axis=0) for name in model.classes_])
        np.testing.assert_allclose(readings[outside, 2:], chances @ means, atol=1e-9, rtol=0)


def test_readings_of_routers_of_format_1_share_one_length():
    questions, y, dataset, fold = make_fit()
    scores, _ = QuestionScores.fit(questions, y, dataset, fold)
    arrays = scores.arrays()
    assert arrays.pop("balance").tolist() == [1.0, 0.5, 0.3]
    old = QuestionScores(scores.vocabulary, arrays)
    options = {"token_pattern": None, "lowercase": False, "ngram_range": (1, 3), "sublinear_tf": True}
    matrix = TfidfVectorizer(tokenizer=tokens, vocabulary=scores.vocabulary, **options).fit(questions)
    matrix.idf_ = scores.idf
    told = matrix.transform(questions) @ scores.weights + scores.intercept
    np.testing.assert_allclose(old(questions)[:, :2], told, atol=1e-9, rtol=0)
    assert not old.arrays()["balance"].size


def test_questions_of_which_no_two_share_a_run_of_words_are_read_by_start_and_end():
    questions = [f"w{k}" for k in range(40)]
    scores, _ = QuestionScores.fit(questions, np.zeros((40, 2)), np.repeat("d", 40), np.arange(40) % 4)
    assert sorted(scores.vocabulary) == ["</s>", "<s>"]
    assert np.isfinite(scores(["", "w1", "quite other words"])).all()


def test_level_and_differences_have_strengths_of_their_own():
    """Levels that many words tell loudly, beside differences that are noise: these are to be held back, not those."""
    rng = np.random.default_rng(0)
    questions, _, dataset, fold = make_fit(400)
    loud = np.array([0.2 + 0.6 * ("number" in q) for q in questions])
    y = np.clip(loud[:, None] + 0.15 * rng.normal(size=(400, 2)), 0, 1)
    matrix, split = vectorizer().fit_transform(questions), PredefinedSplit(fold)
    weak, strong = (best_ridge(matrix, part, split)[0] for part in level_and_rest(y))
    assert strong > 30 * weak
    scores, _ = QuestionScores.fit(questions, y, dataset, fold)
    read = scores(questions)[:, :2]
    assert read.mean(axis=1).std() > 20 * np.diff(read, axis=1).std()


def test_a_folds_labels_move_no_reading_of_its_own_rows(monkeypatch):
    monkeypatch.setattr(question, "_STRENGTHS", (10.0,))  # of several the error over all rows chooses
    questions, y, dataset, fold = make_fit()
    before = QuestionScores.fit(questions, y, dataset, fold)[1]
    for number in range(4):
        turned = np.where((fold == number)[:, None], 1 - y, y)
        after = QuestionScores.fit(questions, turned, dataset, fold)[1]
        assert np.array_equal(after[fold == number], before[fold == number])
        assert not np.array_equal(after[fold != number], before[fold != number])


def test_a_word_of_one_picture_does_not_tell_its_random_label():
    """Three questions per picture share a word and a label; a reading that had seen its fold would know it."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.arange(100), 3)
    y = np.repeat(rng.integers(0, 2, (100, 1)), 3, axis=0).astype(float)
    questions = [f"what is w{number}" for number in picture]
    scores, readings = QuestionScores.fit(questions, y, np.repeat("d", 300), picture % 4)
    assert np.corrcoef(scores(questions)[:, 0], y[:, 0])[0, 1] > 0.9
    assert np.corrcoef(readings[:, 0] + 1e-12 * rng.normal(size=300), y[:, 0])[0, 1] < 0.2


def test_one_word_per_row_says_nothing():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (200, 1)).astype(float)
    scores, readings = QuestionScores.fit([f"w{k}" for k in range(200)], y, np.repeat("d", 200), np.arange(200) % 4)
    assert set(scores.vocabulary) == {"<s>", "</s>"}
    assert np.ptp(readings[:, 0]) < 0.2 and np.ptp(scores(["w3", "w7", "new", ""])[:, 0]) < 1e-12


def test_of_one_data_set_the_second_reading_is_its_mean():
    questions, y, _, fold = make_fit()
    scores, readings = QuestionScores.fit(questions, y, np.repeat("only", len(y)), fold)
    assert np.array_equal(scores(["dog", ""])[:, 2:], np.tile(scores.means, (2, 1)))
    np.testing.assert_allclose(scores.means[0], y.mean(axis=0))
    for number in range(4):
        np.testing.assert_allclose(readings[fold == number, 2:] - y[fold != number].mean(axis=0), 0, atol=1e-12)


def test_of_many_data_sets_the_largest_are_told_apart():
    """One logit for each of eighty took minutes and gigabytes; twenty and one for all others do."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"d{k}" for k in range(30)], 12 + np.arange(30)[::-1])
    questions = [f"what is {name} {rng.integers(3)}" for name in names]
    y = np.stack([names == "d0", names == "d29"], axis=1).astype(float)
    scores, _ = QuestionScores.fit(questions, y, names, np.arange(len(names)) % 4)
    assert scores.logits.shape[1] == len(scores.means) == 21
    told = scores(["what is d0 1", "what is d29 1", "what is d28 1"])[:, 2:]
    assert told[0, 0] > 0.8 and told[1, 0] < 0.1
    np.testing.assert_allclose(told[1], told[2], atol=0.1)  # both are among the others


def test_a_data_set_of_one_fold_is_not_expected_there():
    questions, y, _, fold = make_fit()
    dataset = np.where(fold == 1, "rare", np.where(np.arange(len(y)) % 2, "one", "two"))
    y[fold == 1] = 1.0
    _, readings = QuestionScores.fit(questions, y, dataset, fold)
    others = np.stack([y[dataset == name].mean(axis=0) for name in ("one", "two")])
    found = readings[fold == 1, 2:]
    assert (found >= others.min(axis=0) - 1e-9).all() and (found <= others.max(axis=0) + 1e-9).all()
    rare = np.where(fold == 1, "rare", "one")
    found = QuestionScores.fit(questions, y, rare, fold)[1][fold == 1, 2:]
    np.testing.assert_allclose(found - y[fold != 1].mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("words", [["dog", "cat"], [""], ["🐕"]], ids=["one word", "empty", "no word"])
def test_short_questions_are_read(words):
    questions = [words[k % len(words)] for k in range(40)]
    y = np.array([[float(q == "dog")] for q in questions])
    scores, readings = QuestionScores.fit(questions, y, np.repeat(["a", "b"], 20), np.arange(40) // 2 % 4)
    assert readings.shape == (40, 2) and np.isfinite(readings).all()
    found = scores(["dog", "cat", ""])
    assert np.isfinite(found).all() and (found[0, 0] > found[1, 0] + 0.1 or len(words) == 1)


def test_a_question_is_read_alike_alone_and_in_a_batch():
    questions, y, dataset, fold = make_fit()
    scores, _ = QuestionScores.fit(questions, y, dataset, fold)
    assert np.array_equal(scores(questions), np.concatenate([scores([one]) for one in questions]))
    assert scores([]).shape == (0, 4)


def test_readings_come_back_from_their_arrays():
    questions, y, dataset, fold = make_fit()
    scores, _ = QuestionScores.fit(questions, y, dataset, fold)
    assert np.array_equal(QuestionScores(scores.vocabulary, scores.arrays())(questions), scores(questions))


VOCABULARY = {"<s>": 0, "dog": 1}
ARRAYS = {
    "idf": np.array([1.0, 2.0]),
    "weights": np.array([[0.1, 0.2], [1.0, -1.0]]),
    "intercept": np.array([0.5, 0.25]),
    "logits": np.array([[0.0, 0.0, 0.0], [np.log(2), 0.0, 0.0]]) * np.sqrt(5) / 2,
    "bias": np.zeros(3),
    "means": np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
}


def test_a_reading_by_hand():
    """ "dog" has TF-IDF (1, 2) / sqrt(5), and three data sets the odds 2 : 1 : 1."""
    root = 5**-0.5
    expected = [0.5 + 0.1 * root + 2 * root, 0.25 + 0.2 * root - 2 * root, 0.5, 0.25]
    np.testing.assert_allclose(QuestionScores(VOCABULARY, ARRAYS)(["Dog"])[0], expected, atol=1e-12)
    weight = 2 * (1 + np.log(3)) / np.hypot(1, 2 * (1 + np.log(3)))  # three dogs
    found = QuestionScores(VOCABULARY, ARRAYS)(["dog dog dog"])[0, 1]
    np.testing.assert_allclose(found, 0.25 + 0.2 * np.sqrt(1 - weight**2) - weight, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idf", np.ones(3)),
        ("idf", np.array([1.0, np.nan])),
        ("weights", np.ones((2, 3))),
        ("weights", np.ones(2)),
        ("weights", np.array([[0.1, 0.2], [np.inf, 0.0]])),
        ("intercept", np.ones(3)),
        ("logits", np.ones((3, 3))),
        ("bias", np.ones((3, 1))),
        ("means", np.ones((3, 3))),
        ("means", np.ones(6)),
        ("means", np.array(1.0)),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(name, value):
    with pytest.raises(DataError, match="question scores need"):
        QuestionScores(VOCABULARY, ARRAYS | {name: value})


@pytest.mark.parametrize(
    "vocabulary",
    [
        {"<s>": 0},
        {"<s>": 0, "dog": 0},
        {"<s>": 0, "dog": 2},
        {"<s>": -1, "dog": 0},
        {"<s>": 0.0, "dog": 1},
        {"<s>": False, "dog": True},
    ],
)
def test_a_vocabulary_numbers_the_columns(vocabulary):
    with pytest.raises(DataError, match=r"question scores need|numbers its n-grams from 0 on"):
        QuestionScores(vocabulary, ARRAYS)


@pytest.mark.parametrize("name", QuestionScores.ARRAYS)
def test_a_missing_array_is_named(name):
    with pytest.raises(DataError, match=rf"missing: \['{name}'\]"):
        QuestionScores(VOCABULARY, {key: value for key, value in ARRAYS.items() if key != name})


def test_many_questions_are_read_in_blocks_as_few_are(monkeypatch):
    """All n-grams of all questions at once filled the memory."""
    questions = [f"what number is on sign {k % 7} of {k}" for k in range(50)]
    y = np.random.default_rng(0).random((50, 2))
    scores, _ = QuestionScores.fit(questions, y, np.array(["a"] * 50), np.arange(50) % 4)
    whole = scores(questions)
    monkeypatch.setattr(question, "_BLOCK", 8)
    assert np.allclose(scores(questions), whole, rtol=1e-14, atol=0)
