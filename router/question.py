"""What a question's words say before any picture is looked at: lengths, word lists, and linear scores of its n-grams.

n-grams are thousands of sparse columns, which trees over few hundred dense ones read badly: a ridge regression turns
them into one expected score per arm, out of fold for the rows it was fitted on, so that what is learned on top of them
does not trust them more than new questions will deserve. Knows text. Knows no picture and no model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np

from encoders.errors import DataError
from training_data.curves import group_sums

WORDS = ("log_words", "log_characters", "digits", "options", "asks_yes_no", "asks_which_of")
LEXICONS: dict[str, frozenset[str]] = {
    "reading": frozenset(
        "read reads say says said written write text word words letter letters number numbers digit digits printed "
        "spell spelled name title brand sign label logo caption date year price value score time clock page street "
        "plate website phone address percentage amount total axis legend".split()
    ),
    "counting": frozenset("many count number amount total several".split()),
    "colour": frozenset(
        "color colour colors colours colored coloured red orange yellow green blue purple pink brown black white gray "
        "grey dark light".split()
    ),
    "place": frozenset(
        "where left right top bottom above below under over beside next behind front inside near between corner centre "
        "center middle on in".split()
    ),
    "compare": frozenset("more less most least larger largest smaller smallest bigger biggest same different".split()),
    "entity": frozenset("who what which person man woman animal object thing kind type".split()),
}
_YES_NO = frozenset(
    "is are was were do does did has have had can could will would should isn't aren't doesn't don't".split()
)
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[?]", re.UNICODE)
_OPTION = re.compile(r"(?m)^[^\S\n]*\(?[A-Z][.):]\s")  # not \s*: from each of many empty lines it would read all
_MOST = 400  # characters that are read of either end; between them lie examples, passages and instructions
_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # of the ridge; the out-of-fold error chooses
_FEWEST = 3  # rows an n-gram must occur in
_BALANCE = (1.0, 0.5, 0.3)  # of single words, pairs and triples: each has this length in every question
_ORDERS = len(_BALANCE)
_BLOCK = 1_000  # questions read at a time
_TOLERANCE = 1e-8  # of the ridge's solver
_APART = 20  # data sets, the largest, that texts are told apart by; others count as one
_LOGISTIC = 10.0  # inverse strength of the logistic regression's ridge

_LISTED = {  # word -> the numbers of the lists it is in
    word: [number for number, lexicon in enumerate(LEXICONS.values()) if word in lexicon]
    for word in frozenset().union(*LEXICONS.values())
}
NAMES = (*(f"words_{name}" for name in WORDS), *(f"words_{name}" for name in LEXICONS))


def excerpt(question: str, both_ends: bool = True) -> str:
    """The part of a question that is read: all of a short one, else both ends, or as in formats 1 and 2 the first.

    Where every question has the same long preamble, only its end says what is asked.
    """
    if not both_ends:
        return question[:_MOST]
    return question if len(question) <= 2 * _MOST else f"{question[:_MOST]}\n{question[-_MOST:]}"


def tokens(text: str) -> list[str]:
    """Words in lower case between a start and an end mark, so that an n-gram can say "begins with"."""
    return ["<s>", *_TOKEN.findall(text.lower()), "</s>"]


def word_features(questions: Sequence[str], both_ends: bool = True) -> np.ndarray:
    """(n, len(NAMES)) float32: logarithms of lengths, counts of digits and options, and hits of each word list."""
    rows = [_row(question, both_ends) for question in questions]
    return np.array(rows, dtype=np.float32).reshape(len(questions), len(NAMES))


def _row(question: str, both_ends: bool) -> list[float]:
    words = tokens(excerpt(question, both_ends))[1:-1]
    digits = sum(word.isdigit() for word in words)
    options = len(_OPTION.findall(question))
    hits = [0.0] * len(LEXICONS)
    for word in words:
        for lexicon in _LISTED.get(word, ()):
            hits[lexicon] += 1
    return [
        *(np.log1p(len(words)), np.log1p(len(question)), digits, options),
        *(float(bool(words) and words[0] in _YES_NO), float("or" in words)),
        *hits,
    ]


class QuestionScores:
    """Linear readings of a question's n-grams (one to three words, TF-IDF), each of them k expected scores.

    The first reading is a ridge regression of the scores; the level of a row and what its arms differ by are fitted
    with a strength of their own each, for differences are smaller and drown in the same noise. The second asks which
    data set the question would come from (multinomial logistic regression) and expects the mean scores of those data
    sets: what data-set identity would say, for questions whose data set nobody names.

    Words, pairs and triples are scaled to a length of their own each: under one length for all of them, pairs and
    triples, of which there are as many, leave the words too little to say.

    Attributes:
        vocabulary: n-gram -> column.
        idf: (v,) float64.
        balance: (3,) length of a question's words, of its pairs and of its triples; or (0,): all n-grams have a length
            of 1 together, as in routers of format 1.
        weights, intercept: (v, k) and (k,), the ridge regression.
        logits, bias: (v, c) and (c,), the logistic regression over c data sets.
        means: (c, k), the data sets' mean scores.
    """

    ARRAYS = ("idf", "weights", "intercept", "logits", "bias", "means")
    _LATER = "balance"

    def __init__(self, vocabulary: Mapping[str, int], arrays: Mapping[str, np.ndarray]) -> None:
        if missing := [name for name in self.ARRAYS if name not in arrays]:
            raise DataError(f"question scores are stored as the arrays {self.ARRAYS}, missing: {missing}")
        self.vocabulary = dict(vocabulary)
        self.idf, self.weights, self.intercept, self.logits, self.bias, self.means = (
            np.asarray(arrays[name], np.float64) for name in self.ARRAYS
        )
        self.balance = np.asarray(arrays.get(self._LATER, ()), np.float64)
        if self.means.ndim != 2:
            raise DataError(f"question scores need means by data set and arm, was: shape {self.means.shape}")
        grams, arms, sources = len(self.vocabulary), *self.means.shape[::-1]
        wanted = ((grams,), (grams, arms), (arms,), (grams, sources), (sources,), (sources, arms))
        lengths = (_ORDERS if self.balance.size else 0,)
        for name, shape in zip((*self.ARRAYS, self._LATER), (*wanted, lengths), strict=True):
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise DataError(f"question scores need {name} of shape {shape} and finite, was: {array.shape}")
        numbers = list(self.vocabulary.values())
        if any(type(number) is not int for number in numbers) or sorted(numbers) != list(range(grams)):
            raise DataError("a vocabulary numbers its n-grams from 0 on, was: otherwise")

    def arrays(self) -> dict[str, np.ndarray]:
        """What `__init__` takes beside the vocabulary."""
        return {name: getattr(self, name) for name in (*self.ARRAYS, self._LATER)}

    def __call__(self, questions: Sequence[str]) -> np.ndarray:
        """Both readings side by side: (n, 2 k) float64."""
        if len(questions) > _BLOCK:  # every n-gram of every question at once would fill the memory
            parts = [self(questions[start : start + _BLOCK]) for start in range(0, len(questions), _BLOCK)]
            return np.concatenate(parts)
        found = [self._columns(question) for question in questions]
        row = np.repeat(np.arange(len(found)), [len(counts) for counts in found])
        column = np.array([column for counts in found for column in counts], np.int64)
        count = np.array([count for counts in found for count in counts.values()], np.float64)
        value = (1 + np.log(count)) * self.idf[column]
        part = row * _ORDERS + self._order[column] if self.balance.size else row
        length = np.sqrt(np.bincount(part, value**2))
        value /= length[part]
        if self.balance.size:
            value *= self.balance[self._order[column]]
        sums = group_sums(value[:, None] * self._joined[column], row, len(found))  # in the same order for one or many
        arms = len(self.intercept)
        shares = _softmax(sums[:, arms:] + self.bias)
        expected = (shares[:, :, None] * self.means).sum(axis=1)  # a matrix product rounds one row otherwise than many
        return np.concatenate([sums[:, :arms] + self.intercept, expected], axis=1)

    @cached_property
    def _joined(self) -> np.ndarray:
        return np.concatenate([self.weights, self.logits], axis=1)

    @cached_property
    def _order(self) -> np.ndarray:
        """Of each n-gram, its words less one."""
        order = np.empty(len(self.vocabulary), np.int64)
        for gram, column in self.vocabulary.items():
            order[column] = min(gram.count(" "), _ORDERS - 1)
        return order

    def _columns(self, question: str) -> dict[int, int]:
        """How often each known n-gram occurs."""
        known = (self.vocabulary.get(gram) for gram in grams(question))
        return Counter(column for column in known if column is not None)

    @classmethod
    def fit(
        cls, questions: Sequence[str], y: np.ndarray, dataset: np.ndarray, fold: np.ndarray
    ) -> tuple[QuestionScores, np.ndarray]:
        """(the readings fitted on all rows, and their (n, 2 k) for these rows, each made without the row's own fold).

        Args:
            questions: n texts.
            y: (n, k) targets.
            dataset: (n,) names.
            fold: (n,) int, from 0 on; rows about one picture share theirs.
        """
        texts, text = np.unique(np.asarray(questions, dtype=object), return_inverse=True)
        vocabulary, idf, distinct = _grams_of(questions, texts)
        source, count = _sources(dataset)
        read, weights, intercept = _read(distinct, text, y, fold)
        matrix = distinct[text]
        expected = np.empty(y.shape)
        for number in range(int(fold.max()) + 1):
            inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            logits, bias = _logistic(matrix[inside], source[inside], count)
            means = _means(y[inside], source[inside], count)
            expected[outside] = _softmax(matrix[outside] @ logits + bias) @ means
        parts = (weights, intercept, *_logistic(matrix, source, count))
        arrays = dict(zip(cls.ARRAYS, (idf, *parts, _means(y, source, count)), strict=True))
        return cls(vocabulary, arrays | {cls._LATER: np.array(_BALANCE)}), np.concatenate([read, expected], axis=1)


def _sources(dataset: np.ndarray) -> tuple[np.ndarray, int]:
    """(numbers (n,) of the rows' data sets, how many numbers): beyond the largest `_APART` all share the last."""
    names, source, rows = np.unique(dataset, return_inverse=True, return_counts=True)
    if len(names) <= _APART:
        return source, len(names)
    number = np.full(len(names), _APART)
    number[np.argsort(-rows, kind="stable")[:_APART]] = np.arange(_APART)
    return number[source], _APART + 1


def grams(question: str) -> list[str]:
    """Runs of one to three tokens."""
    words = tokens(question)
    return [gram for order in range(_ORDERS) for gram in _runs(words, order)]


def _runs(words: Sequence[str], order: int) -> list[str]:
    """Runs of `order` + 1 words."""
    return [" ".join(words[start : start + order + 1]) for start in range(len(words) - order)]


def _grams_of(questions: Sequence[str], texts: np.ndarray) -> tuple[dict[str, int], np.ndarray, Any]:
    """(n-gram -> column, their idf (v,) among the questions, a sparse (texts, v) of words, pairs and triples)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    words, fewest, fitted = [tokens(question) for question in questions], min(_FEWEST, len(questions)), []
    for order in range(_ORDERS):
        vectorizer = TfidfVectorizer(analyzer=partial(_runs, order=order), min_df=fewest, sublinear_tf=True)
        with suppress(ValueError):  # no run of so many words is in enough questions; start and end are in all
            fitted.append((str(order), vectorizer.fit(words)))
    vocabulary: dict[str, int] = {}
    for _, vectorizer in fitted:
        start = len(vocabulary)
        vocabulary |= {gram: start + int(column) for gram, column in vectorizer.vocabulary_.items()}
    balance = {name: _BALANCE[int(name)] for name, _ in fitted}
    matrix = FeatureUnion(fitted, transformer_weights=balance).transform([tokens(text) for text in texts])
    return vocabulary, np.concatenate([vectorizer.idf_ for _, vectorizer in fitted]), matrix


def _read(
    distinct: Any, text: np.ndarray, y: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(readings (n, k), each made without the row's own fold; weights (v, k) and intercept (k,) of all rows).

    Args:
        distinct: (texts, v) of different texts.
        text: (n,) which of them a row asks; people ask the same of many pictures.
        y: (n, k) targets.
        fold: (n,) int, from 0 on.
    """
    level = y.mean(axis=1, keepdims=True)
    sums: list[Any] = [0.0, 0.0, 0.0]
    for part in (level, y - level):
        tried = [_out_of_fold(distinct, text, part, fold, strength) for strength in _STRENGTHS]
        best = int(np.argmin([((guess - part) ** 2).sum() for guess in tried]))
        own = tried[best], *_ridge(distinct, text, part, _STRENGTHS[best])
        sums = [total + more for total, more in zip(sums, own, strict=True)]
    return sums[0], sums[1], sums[2]


def _out_of_fold(distinct: Any, text: np.ndarray, y: np.ndarray, fold: np.ndarray, strength: float) -> np.ndarray:
    guess = np.empty(y.shape)
    for number in range(int(fold.max()) + 1):
        outside = fold == number
        weights, intercept = _ridge(distinct, text[~outside], y[~outside], strength)
        guess[outside] = (distinct @ weights + intercept)[text[outside]]
    return guess


def _ridge(distinct: Any, text: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """(weights (v, k), intercept (k,)): a text's mean, weighed by its rows, says all that they do."""
    from sklearn.linear_model import Ridge

    rows = np.bincount(text, minlength=distinct.shape[0])
    asked = rows > 0
    means = group_sums(y, text, len(rows))[asked] / rows[asked, None]
    fitted = Ridge(strength, tol=_TOLERANCE).fit(distinct[asked], means, sample_weight=rows[asked])
    return fitted.coef_.reshape(y.shape[1], -1).T, np.atleast_1d(fitted.intercept_)


def _logistic(matrix: Any, source: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(logits (v, count), bias (count,)); a data set without a row gets a logit that keeps it out."""
    from sklearn.linear_model import LogisticRegression

    there, counts = np.unique(source, return_counts=True)
    logits, bias = np.zeros((matrix.shape[1], count)), np.full(count, -30.0)
    bias[there] = np.log(counts / counts.sum())
    if len(there) > 1:
        fitted = LogisticRegression(C=_LOGISTIC, max_iter=300).fit(matrix, source)
        if len(there) == 2:  # scikit-learn tells two classes apart by one logit
            logits[:, there[1]], bias[there] = fitted.coef_[0], [0.0, fitted.intercept_[0]]
        else:
            logits[:, there], bias[there] = fitted.coef_.T, fitted.intercept_
    return logits, bias


def _means(y: np.ndarray, source: np.ndarray, count: int) -> np.ndarray:
    """Mean scores (count, k) of each data set; the overall mean where it has no row."""
    sums, sizes = group_sums(y, source, count), np.bincount(source, minlength=count)
    return np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], y.mean(axis=0))


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
