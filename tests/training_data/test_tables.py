"""Plain tables: what a person would write, and every way to get it wrong, told by file and line."""

import json

import pytest

from encoders.errors import DataError
from training_data.outcomes import Outcomes


def load(tmp_path, text):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return Outcomes.load(path)


def test_four_columns_are_enough(tmp_path):
    outcomes = load(tmp_path, "id,question,m,score\nb,how?,64,1\nb,how?,16,0.5\na,who?,16,0\na,who?,64,1\n")
    assert outcomes.id.tolist() == ["b", "a"] and outcomes.arms == ("16", "64") and outcomes.m.tolist() == [16, 64]
    assert outcomes.score.tolist() == [[0.5, 1], [0, 1]]
    assert outcomes.cost.tolist() == [[16, 64], [16, 64]] and outcomes.unit == "tokens"
    assert [name.split()[0] for name in outcomes.group] == ["b", "a"] and outcomes.dataset.tolist() == ["all", "all"]
    assert outcomes.text is None and outcomes.features is None and outcomes.backbone is None


def test_a_long_question_makes_no_group_as_wide_as_itself(tmp_path):
    """Groups are kept at one width: a question of 100,000 characters among 1,500 took gigabytes."""
    rows = [f"{k},{'why ' * (5_000 if k == 7 else 1)},{m},1" for k in range(9) for m in (1, 4)]
    outcomes = load(tmp_path, "\n".join(["id,question,m,score", *rows, "9,,1,0", "9,,4,0"]) + "\n")
    assert outcomes.group.nbytes < 2_000 and len(set(outcomes.group.tolist())) == 10
    assert outcomes.group[9] == "9"


def test_named_models_with_dollars_as_cost(tmp_path):
    outcomes = load(tmp_path, "id,question,arm,score,cost\n1,q,large,1,0.02\n1,q,small,0,0.001\n")
    assert outcomes.arms == ("small", "large") and outcomes.m is None and outcomes.unit == "cost"
    assert outcomes.cost.tolist() == [[0.001, 0.02]]


def test_a_picture_is_the_group_where_none_is_given(tmp_path):
    head = "id,question,m,score,image,dataset,text,confidence\n"
    rows = "1,q,1,0,x.png,vqa,no,-1.5\n1,q,4,1,x.png,vqa,yes,-0.5\n2,q,1,0,x.png,vqa,no,-1\n2,q,4,1,x.png,vqa,yes,-1\n"
    outcomes = load(tmp_path, head + rows)
    assert outcomes.group.tolist() == ["x.png", "x.png"] and outcomes.dataset.tolist() == ["vqa", "vqa"]
    assert outcomes.text.tolist()[0] == ["no", "yes"] and outcomes.confidence[0].tolist() == [-1.5, -0.5]
    assert outcomes.meta[0] == {"image": "x.png"}


def test_an_empty_answer_is_an_answer(tmp_path):
    outcomes = load(tmp_path, "id,question,m,score,text\n1,q,1,0,\n1,q,4,1,yes\n")
    assert outcomes.text.tolist() == [["", "yes"]]


@pytest.mark.parametrize(
    ("said", "text"), [(0, "0"), (0.0, "0.0"), (False, "False"), (None, ""), ("", ""), ("no", "no")]
)
def test_nought_is_an_answer(tmp_path, said, text):
    rows = [{"id": "1", "question": "how many", "m": m, "score": 1, "text": said} for m in (1, 4)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert Outcomes.load(path).text.tolist() == [[text, text]]


def test_half_a_character_pair_is_refused_where_it_stands(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "1", "question": "q", "m": 1, "score": 1, "text": "\\ud83d"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="line 1: the field 'text' must be valid Unicode"):
        Outcomes.load(path)


def test_replicates_are_rows_of_their_own(tmp_path):
    rows = "".join(f"1,q,{r},{m},1\n" for r in (0, 1) for m in (1, 4))
    outcomes = load(tmp_path, "id,question,replicate,m,score\n" + rows)
    assert outcomes.id.tolist() == ["1", "1"] and outcomes.replicate.tolist() == [0, 1]


@pytest.mark.parametrize(("right", "wrong"), [("True", "False"), ("true", "false"), ("1.0", "0.0")])
def test_scores_and_m_are_read_as_pandas_writes_them(tmp_path, right, wrong):
    outcomes = load(tmp_path, f"id,question,m,score\n1.0,q,16.0,{wrong}\n1.0,q,36.0,{right}\n")
    assert outcomes.score.tolist() == [[0, 1]] and outcomes.m.tolist() == [16, 36] and outcomes.arms == ("16", "36")
    assert outcomes.id.tolist() == ["1.0"]


def test_json_lines_may_hold_numbers_for_names_and_truth_values_for_scores(tmp_path):
    rows = [
        {"id": 1.0, "question": 12, "image": 7, "dataset": 3, "m": m, "score": score}
        for m, score in ((16.0, False), (36, True))
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcomes = Outcomes.load(path)
    assert outcomes.score.tolist() == [[0, 1]] and outcomes.m.tolist() == [16, 36]
    named = [getattr(outcomes, name)[0] for name in ("id", "question", "group", "dataset")]
    assert named == ["1.0", "12", "7", "3"] and outcomes.meta[0] == {"image": "7"}
    path.write_text(json.dumps(rows[0] | {"m": -16.0}))
    with pytest.raises(DataError, match=r"m must be a whole number of at least 1, was: -16"):
        Outcomes.load(path)


HEAD = "id,question,m,score\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "1,q,1,0\n1,q,4,1\n2,q,1,1\n", "missing: id '2', arm '4'"),
        (HEAD + "1,q,1,0\n1,q,1,1\n", "line 3.*one row per arm.*twice: id '1', arm '1'"),
        (HEAD + "1,q,1,2\n", r"line 2.*score must lie in \[0, 1\], was: 2"),
        (HEAD + "1,q,1,high\n", "line 2.*score.*'high'"),
        (HEAD + "1,q,1,nan\n", "line 2.*score.*nan"),
        (HEAD + "1,q,1,\n", "line 2.*score"),
        (HEAD + "1,q,1.5,1\n", "line 2.*m.*1.5"),
        (HEAD + "1,q,-36.0,1\n", "line 2: m must be a whole number of at least 1, was: -36"),
        (HEAD + "1,q,0,1\n", "line 2.*m must be.*at least 1"),
        (HEAD + ",q,1,1\n", "line 2.*id"),
        (HEAD + "1,q,1\n", "line 2.*4 cells"),
        (HEAD, "must not be empty|at least one row"),
        ("", "empty"),
        ("id,question,score\n1,q,1\n", "line 2.*or 'm'"),
        ("id,arm,score\n1,small,1\n1,large,1\n", "line 2.*needs a cost"),
        ("id,m,score,cost\n1,1,1,-2\n", "line 2.*cost must be positive, was: -2"),
        ("id,question,m,score,cost\n1,q,1,1,2\n1,q,4,1,\n", "cost must stand in every row or in none"),
        ("id,question,m,score,confidence\n1,q,1,1,-2\n1,q,4,1,\n", "confidence must stand in every row or in none"),
        ("id,prompt,m,score\n1,q,1,1\n1,q,4,1\n", "a column `question`, was: id, prompt, m, score"),
        (HEAD + "1,q,1,0\n1,other,4,1\n", "an id has one question, id '1' had two, was: \"'other' after 'q'"),
        ("id,question,group,m,score\n1,q,g,1,1\n1,q,h,4,1\n", "an id has one group, id '1' had two"),
        (
            "id,question,m,score,cost,unit\n1,q,1,1,2,dollars\n1,q,4,1,3,dollars\n2,q,1,1,2,euros\n2,q,4,1,3,euros\n",
            "in one unit, was: dollars and euros",
        ),
        ("id,arm,m,score\n1,a,1,1\n1,b,4,1\n2,a,2,1\n", "line 4.*an arm has one m"),
        (
            "id,question,replicate,m,score\n7,q,1,1,1\n7,q,1,4,1\n",
            "line 2: replicate 0 is .*, was: \"1 alone of id '7'",
        ),
        (HEAD + '1,"q,1,1\n', "line"),
        (HEAD + "1,q,1,1\n", "two or more arms"),
    ],
)
def test_what_breaks_the_format_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, text)


def test_no_remedy_is_told_that_a_table_has_not(tmp_path):
    for text in ("id;question;m;score\n1;q;4;1\n", "id,question,m,score\n1,q,4,often\n"):
        with pytest.raises(DataError, match=r"; mend the row$"):
            load(tmp_path, text)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        Outcomes.load(tmp_path / "nowhere.csv")


def test_a_wrong_encoding_is_named(tmp_path):
    (tmp_path / "mine.csv").write_bytes("id,m,score\nä,1,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        Outcomes.load(tmp_path / "mine.csv")


def test_names_that_no_budget_could_give_are_refused(tmp_path):
    """ ", " between cells: a router was fitted whose unit was " dollars", and no budget could say so."""
    with pytest.raises(DataError, match=r"line 2: an arm's name must be printable, .*, was: ' small'"):
        load(tmp_path, "id, question, arm, score, cost\n1, q, small, 0, .1\n1, q, large, 1, .2\n")
    with pytest.raises(DataError, match="a unit must be a printable name without spaces around it, was: ' dollars'"):
        load(tmp_path, "id,question,arm,score,cost,unit\n1,q,small,0,.1, dollars\n1,q,large,1,.2, dollars\n")
