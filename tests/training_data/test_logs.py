"""Other people's logs: in whatever format, the same answers are the same Outcomes; what does not fit is named."""

import json

import numpy as np
import pytest

from encoders.errors import DataError
from training_data.example import Example
from training_data.logs import answers, lmms_eval, vlmevalkit
from training_data.logs.ladder import parse_ladder, parse_logs
from training_data.outcomes import Outcomes
from training_data.rows import Tally
from training_data.scores import score

LADDER = (16, 64)
QUESTIONS = ("Is there a cup?", "Is there a dog, or a cat?", "Is it day?\nAnswer yes or no.", "Is it warm?")
GOLD = ("yes", "no", "no", "yes")
SAID = {16: ("Yes", "yes", "no", "No"), 64: ("Yes", "No", "No", "")}  # the last one empty: a real answer, and wrong
DATE = "20241008_173423"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def graded(text, gold):
    example = Example(id="x", image=(), question="", answers=(gold,), group="x", dataset="d", metric="exact")
    return score(text, example).value


def direct(ids):
    """The Outcomes of the same answers without a log between."""
    return Outcomes(
        id=ids,
        group=ids,
        dataset=["pope"] * 4,
        question=QUESTIONS,
        replicate=[0] * 4,
        arms=("16", "64"),
        m=LADDER,
        score=[[graded(SAID[m][k], GOLD[k]) for m in LADDER] for k in range(4)],
        cost=np.tile([16.0, 64.0], (4, 1)),
        text=np.array([[SAID[m][k] for m in LADDER] for k in range(4)], dtype=object),
        unit="tokens",
    )


# lmms-eval ----------------------------------------------------------------------------------------------------------


def lmms_row(k, m):
    verdict = {"question_id": str(k), "score": graded(SAID[m][k], GOLD[k]), "prediction": SAID[m][k].lower()}
    return {
        "doc_id": k,
        "target": GOLD[k],
        "filtered_resps": [SAID[m][k]],
        "doc_hash": "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
        "input": QUESTIONS[k],
        "token_counts": [{"input_tokens": 50 + m, "output_tokens": 2}],
        "question_type": "7",
        "submission": {"question_id": k, "answer": SAID[m][k]},
        "pope_accuracy": verdict,
        "pope_f1_score": dict(verdict),
    }


def lmms_log(folder, m, rows=None, arguments=None, task="pope"):
    """A folder as `--log_samples --output_path folder` leaves it; rows in the order of two processes."""
    home = folder / "mucai__llava-v1.5-7b-m3"
    said = f"pretrained=mucai/llava-v1.5-7b-m3,matryoshka_vis_token_scale={m},device=cuda"
    config = {"model": "llava", "model_args": said if arguments is None else arguments}
    results = {"results": {task: {"pope_accuracy,none": 0.5}}, "config": config}
    write(home / f"{DATE}_results.json", json.dumps(results, indent=2).replace("0.5", "NaN"))
    rows = [lmms_row(k, m) for k in (0, 1, 2, 3)] if rows is None else rows
    write(home / f"{DATE}_samples_{task}.jsonl", lines(rows if m == 16 else rows[::2] + rows[1::2]))
    return folder


def lmms_pair(tmp_path, **changed):
    """Logs of two m; `changed` are fields of the second line at m 64."""
    rows = [lmms_row(k, 64) for k in range(4)]
    rows[1] |= changed
    return [lmms_log(tmp_path / "m16", 16), lmms_log(tmp_path / "m64", 64, rows)]


def test_an_lmms_eval_pair_is_what_its_answers_are(tmp_path):
    expected = direct([f"pope/{k}" for k in range(4)])
    logs = lmms_pair(tmp_path)
    assert lmms_eval.read(logs).digest() == expected.digest()
    assert lmms_eval.read(logs[::-1]).digest() == expected.digest()
    by_hand = dict(zip(LADDER, (next(log.rglob("*_samples_*")) for log in logs), strict=True))
    assert lmms_eval.read(by_hand).digest() == expected.digest()
    assert lmms_eval.read(logs, metric="pope_f1_score").digest() == expected.digest()


def m3_log(folder, m, **changed):
    """A folder as the lmms-eval that M3 ships leaves it: one object a task, m an option of the command."""
    rows = [lmms_row(k, m) for k in range(4)]
    for k, row in enumerate(rows):
        row |= {"arguments": [[row.pop("input"), None]], "doc": {"image_id": f"{k}"}, "resps": [row["filtered_resps"]]}
    args = {"model": "llava", "model_args": "pretrained=mucai/llava", "matryoshka_vis_token_scale": m} | changed
    home = folder / "1124_0830_m3_llava_model_args_bba7b8"
    write(home / "pope.json", json.dumps({"args": args, "model_configs": {"task": "pope"}, "logs": rows}, indent=4))
    write(home / "results.json", json.dumps({"results": {}, "configs": {}, "config": {"model_args": ""}}))
    return folder


def test_a_pair_that_m3s_own_lmms_eval_wrote_is_what_its_answers_are(tmp_path):
    logs = [m3_log(tmp_path / str(m), m) for m in LADDER]
    found, given = lmms_eval.read(logs), lmms_eval.read(dict(zip(LADDER, logs, strict=True)))
    assert found.digest() == given.digest()
    assert found.id.tolist() == [f"pope/{k}" for k in range(4)] and found.m.tolist() == list(LADDER)
    assert found.score.tolist() == direct(["0", "1", "2", "3"]).score.tolist()
    assert found.question.tolist() == list(QUESTIONS)
    file = next(logs[0].rglob("pope.json"))
    assert lmms_eval.read({16: file, 64: logs[1]}).digest() == found.digest()
    write(file.parent / "submissions" / "textvqa_submission_1124.json", "[]")  # what some tasks leave beside
    assert lmms_eval.read(logs).digest() == found.digest()
    unsaid = [m3_log(tmp_path / f"n{m}", m, matryoshka_vis_token_scale=None) for m in LADDER]
    with pytest.raises(DataError, match=r"pope\.json: model_args must say m, under one of"):
        lmms_eval.read(unsaid)


@pytest.mark.parametrize("field", ["input", "target", "filtered_resps"])
def test_half_a_character_pair_in_a_log_is_named(tmp_path, field):
    """It was read, and then no file could be written."""
    rows = [lmms_row(k, 16) | ({field: "\ud83d"} if k == 2 else {}) for k in range(4)]
    logs = {16: lmms_log(tmp_path / "16", 16, rows), 64: lmms_log(tmp_path / "64", 64)}
    with pytest.raises(DataError, match=rf"line 3: the field '{field}' must be valid Unicode"):
        lmms_eval.read(logs)


def test_targets_that_are_lists_written_as_text_are_lists(tmp_path):
    """lmms-eval's targets are always text; ChartQA's are lists."""
    rows = [lmms_row(0, 64) | {"target": "['0.28', '28 %']", "filtered_resps": [said]} for said in ("0.28", "28 %")]
    logs = [lmms_log(tmp_path / f"m{m}", m, [row]) for m, row in zip(LADDER, rows, strict=True)]
    assert lmms_eval.read(logs, metric="anls").score.tolist() == [[1, 1]]


def test_every_task_of_a_folder_is_taken(tmp_path):
    logs = lmms_pair(tmp_path)
    for log, m in zip(logs, LADDER, strict=True):
        rows = [
            {
                "doc_id": 0,
                "target": "b",
                "input": "2?",
                "resps": [["B"]],
                "relaxed_overall": 0.25,
                "relaxed_human": 0.25,
            }
        ]
        lmms_log(log, m, rows, task="chartqa_samples_lite")
    outcomes = lmms_eval.read(logs)
    assert outcomes.id.tolist() == ["chartqa_samples_lite/0", *(f"pope/{k}" for k in range(4))]
    assert outcomes.dataset[0] == "chartqa_samples_lite" and outcomes.score[0].tolist() == [0.25, 0.25]
    assert outcomes.text[0].tolist() == ["B", "B"]


@pytest.mark.parametrize(
    ("named", "group"),
    [
        ({"doc": {"image_id": 262148}}, "pope/262148"),
        ({"doc": {"question": "q", "image_path": "val2014/COCO_1.jpg"}}, "val2014/COCO_1.jpg"),
        ({"mme_perception_score": {"question_id": "artwork/10002.PNG", "score": 0}}, "artwork/10002.PNG"),
        ({"doc": {"question_id": "8", "image_id": ""}}, "pope/1"),
        ({"doc": None}, "pope/1"),
    ],
)
def test_the_group_is_the_picture_where_the_line_names_it(tmp_path, named, group):
    logs = []
    for m in LADDER:
        rows = [lmms_row(k, m) for k in range(4)]
        rows[1] = {key: value for key, value in rows[1].items() if "pope" not in key} | {"exact_match": 0} | named
        logs.append(lmms_log(tmp_path / str(m), m, rows))
    assert lmms_eval.read(logs).group.tolist() == ["pope/0", group, "pope/2", "pope/3"]


@pytest.mark.parametrize(
    "arguments",
    [
        "num_visual_tokens=64,pretrained=x",
        "pretrained=x, m=64",
        "pretrained=x,max_soft_tokens=64,conv_template=v1",
        {"pretrained": "x", "matryoshka_vis_token_scale": 64},
        "m=64,num_visual_tokens=64",
    ],
)
def test_the_budget_is_read_from_the_models_arguments(tmp_path, arguments):
    assert lmms_eval.m_of(lmms_log(tmp_path, 64, arguments=arguments)) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pretrained=x", "model_args must say m, under one of num_visual_tokens.*16="),
        ("item=64,pretrained=x", "model_args must say m"),
        ("", "model_args must say m"),
        ({}, "model_args must say m"),
        ("m=64,num_visual_tokens=16", "model_args must say m"),
        ("num_visual_tokens=second_stage", "whole number of at least 1, was: 'second_stage'.*16="),
        ("m=0", "whole number of at least 1, was: '0'"),
    ],
)
def test_a_budget_that_is_not_said_is_asked_for(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        lmms_eval.m_of(lmms_log(tmp_path, 64, arguments=arguments))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input": "Is there a bus?"}, r"'input' of 'pope/1' must agree across m, was: 'Is there a bus\?' at m 64"),
        ({"target": "yes"}, "samples_pope.jsonl, line 3: 'target' of 'pope/1' must agree"),
        ({"doc_id": 7}, "missing: 'pope/7' at m 16|missing: 'pope/1' at m 64"),
        ({"doc_id": 0}, "line 3: a question is answered once per m, was twice at m 64: 'pope/0'.*line 1"),
        ({"doc_id": None}, "line 3: a row must have the field 'doc_id'"),
        ({"input": None}, "line 3: a row must have the field 'input'"),
        ({"filtered_resps": None}, "line 3: a row must have the field 'filtered_resps' or 'resps'"),
        (
            {"pope_accuracy": {"score": 0.0}},
            r"line 3.*several metrics differ.*choose the metric: pope_accuracy, pope_f1",
        ),
        ({"pope_accuracy": None, "pope_f1_score": {"prediction": "no"}}, "line 3: a line must hold a metric"),
        (
            {"pope_accuracy": 50, "pope_f1_score": None},
            r"line 3: the score 'pope_accuracy' must lie in \[0, 1\], was: 50",
        ),
    ],
)
def test_lmms_eval_logs_that_do_not_fit_are_named(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        lmms_eval.read(lmms_pair(tmp_path, **changed))


def test_a_metric_that_differs_can_be_chosen_and_must_be_there(tmp_path):
    logs = lmms_pair(tmp_path, pope_accuracy={"exact_match": 0.5})
    assert lmms_eval.read(logs, metric="pope_accuracy").score[1].tolist() == [0, 0.5]
    with pytest.raises(
        DataError, match="the metric 'bleu' must hold a number, was: 'only pope_accuracy, pope_f1_score'; choose one of"
    ):
        lmms_eval.read(logs, metric="bleu")


MMBENCH = {"index": 1000241, "question": "Which?", "hint": "nan", "A": "cat", "B": "dog", "C": "nan", "answer": "B"}
SEED = {"question_id": "101669", "pred": "B", "answer": "B"}


@pytest.mark.parametrize(
    ("field", "held", "metric", "group"),
    [
        ("gpt_eval_score", MMBENCH | {"prediction": "B"}, "mmbench", "t/241"),
        ("seed_all", SEED, "letter", "t/0"),
        ("anything", SEED, "exact", "t/0"),
    ],
    ids=["mmbench", "seed", "any rule"],
)
def test_answers_that_a_log_does_not_score_are_scored_by_a_named_rule(tmp_path, field, held, metric, group):
    """lmms-eval's MMBench and SEED are scored by a later run over all rows; each line holds only what it needs."""
    logs = []
    for m, text in ((16, "B."), (64, "Neither, I believe")):
        read = held | ({"pred": text[0]} if "pred" in held else {})  # SEED's own reading, of which "." is no part
        row = {"doc_id": 0, "target": "B", "input": "Which?", "filtered_resps": [text], field: read}
        logs.append(lmms_log(tmp_path / str(m), m, [row], task="t"))
    outcomes = lmms_eval.read(logs, metric)
    assert outcomes.text.tolist() == [["B.", "Neither, I believe"]]
    assert outcomes.score.tolist() == [[1, 0]] and outcomes.group.tolist() == [group]
    assert outcomes.parsed.tolist() == [[1, 1 if metric == "exact" else 0]]
    with pytest.raises(DataError, match=rf"only {field}'; name a metric to score it by here: anls, exact, "):
        lmms_eval.read(logs)
    with pytest.raises(DataError, match=rf"the metric '{field}' must hold a number.*or a rule to score by here: anls"):
        lmms_eval.read(logs, field)


@pytest.mark.parametrize(
    ("changed", "metric", "message"),
    [
        ({"target": None}, "exact", "line 1: a line must hold a target to be scored by, was: None"),
        ({"target": "nan", "seed_all": MMBENCH}, "mmbench", "'mmbench' must be the letter of a choice, was: .'nan'"),
        ({}, "mmbench", "line 1: metric 'mmbench' needs the choices, in fields A, B"),
        ({}, "vqa", "line 1: soft accuracy leaves one annotator out"),
    ],
)
def test_a_line_that_the_rule_cannot_score_is_named(tmp_path, changed, metric, message):
    row = {"doc_id": 0, "target": "B", "input": "Which?", "filtered_resps": ["B"], "seed_all": {"pred": "B"}} | changed
    with pytest.raises(DataError, match=message):
        lmms_eval.read([lmms_log(tmp_path / str(m), m, [row], task="t") for m in LADDER], metric)


def test_a_field_of_a_log_is_taken_before_the_rule_of_its_name(tmp_path):
    rows = [{"doc_id": 0, "target": "B", "input": "?", "filtered_resps": ["B"], "anls": 0.25}]
    logs = [lmms_log(tmp_path / str(m), m, rows, task="t") for m in LADDER]
    assert lmms_eval.read(logs, "anls").score.tolist() == [[0.25, 0.25]]
    assert lmms_eval.read(logs, "exact").score.tolist() == [[1, 1]]


def test_lmms_eval_folders_that_do_not_fit_are_named(tmp_path):
    first, second = lmms_pair(tmp_path)
    with pytest.raises(DataError, match="a router chooses among two or more m"):
        lmms_eval.read([first])
    with pytest.raises(DataError, match="each m has one log, was twice: 16"):
        lmms_eval.read([first, lmms_log(tmp_path / "again", 16)])
    with pytest.raises(DataError, match=r"was: none in .*empty"):
        (tmp_path / "empty").mkdir()
        lmms_eval.read([first, tmp_path / "empty"])
    with pytest.raises(DataError, match=r"DATE_samples_TASK.jsonl or TASK.json, was: .*nowhere"):
        lmms_eval.read([first, tmp_path / "nowhere"])
    samples = next(second.rglob("*_samples_*"))
    torn = write(tmp_path / "torn" / samples.name, samples.read_text()[:-20])
    with pytest.raises(DataError, match=r"_samples_pope.jsonl, line 4: must be valid JSON"):
        lmms_eval.read({16: first, 64: torn})
    with pytest.raises(DataError, match=r"was: no 20241008_173423_results.json; give the m by hand"):
        lmms_eval.read([first, torn])
    write(torn.with_name(f"{DATE}_results.json"), '{"config": ')
    with pytest.raises(DataError, match=r"_results.json, line 1: must be valid JSON"):
        lmms_eval.read([first, torn])
    write(samples.with_name("20250101_000000_samples_pope.jsonl"), samples.read_text())
    with pytest.raises(DataError, match="a task has one samples file per m"):
        lmms_eval.read([first, second])


def test_runs_of_two_m_in_one_folder_are_refused(tmp_path):
    log = lmms_log(tmp_path, 16)
    other = lmms_log(tmp_path / "other", 64, task="gqa")
    for path in sorted(other.rglob("*.json*")):
        path.rename(log / f"later{path.name}")
    with pytest.raises(DataError, match=r"a log has one m, was: .*64 in later.*_samples_gqa"):
        lmms_eval.m_of(log)


def test_a_log_of_nothing_but_empty_answers_is_refused(tmp_path):
    """M3's fork of lmms-eval writes "" where the model raised an error, and scores it as wrong."""
    rows = [lmms_row(k, 64) | {"filtered_resps": [("", None, [], [[]])[k]]} for k in range(4)]
    with pytest.raises(DataError, match="only empty ones at m 64"):
        lmms_eval.read([lmms_log(tmp_path / "a", 16), lmms_log(tmp_path / "b", 64, rows)])


# VLMEvalKit ---------------------------------------------------------------------------------------------------------


def kit_rows(m, scored="score"):
    """What infer_data_job and YOrN's evaluation write; numpy's bools are text in a TSV."""
    rows = []
    for k in range(4):
        row = {"index": k, "question": QUESTIONS[k], "hint": None, "answer": GOLD[k], "prediction": SAID[m][k]}
        rows.append(row | ({scored: bool(graded(SAID[m][k], GOLD[k]))} if scored else {}))
    return rows


def as_tsv(rows):
    cells = [list(rows[0]), *(["" if cell is None else str(cell) for cell in row.values()] for row in rows)]
    return "".join("\t".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in cells)


def as_json(rows):
    return json.dumps([{key: float("nan") if cell is None else cell for key, cell in row.items()} for row in rows])


def as_sheet(path, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def kit_file(tmp_path, m, ending="tsv", scored="score", **changed):
    """A prediction file; `changed` are cells of its second row."""
    rows = kit_rows(m, scored)
    rows[1] |= changed
    path = tmp_path / f"m3-{m}" / f"m3-{m}_pope.{ending}"
    return as_sheet(path, rows) if ending == "xlsx" else write(path, {"tsv": as_tsv, "json": as_json}[ending](rows))


@pytest.mark.parametrize("ending", ["tsv", "json", "xlsx"])
@pytest.mark.parametrize(("scored", "metric"), [("score", None), ("hit", None), ("mine", "mine"), (None, "exact")])
def test_a_vlmevalkit_pair_is_what_its_answers_are(tmp_path, ending, scored, metric):
    files = {m: kit_file(tmp_path, m, ending, scored) for m in reversed(LADDER)}
    outcomes = vlmevalkit.read(files, metric)
    expected = direct([str(k) for k in range(4)])
    assert outcomes.group.tolist() == [f"pope/{k}" for k in range(4)]
    for name in ("id", "dataset", "question", "m", "score", "cost", "text"):
        assert np.array_equal(getattr(outcomes, name), getattr(expected, name)), name
    assert (outcomes.arms, outcomes.unit, outcomes.meta) == (expected.arms, "tokens", None)


def test_both_sources_tell_the_same(tmp_path):
    one = lmms_eval.read(lmms_pair(tmp_path))
    two = vlmevalkit.read({m: kit_file(tmp_path, m) for m in LADDER})
    assert [f"pope/{name}" for name in two.id.tolist()] == one.id.tolist()
    for name in ("group", "dataset", "question", "m", "score", "cost", "text"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_rotations_and_questions_of_a_named_picture_are_one_group(tmp_path):
    rows = [
        {
            "index": 5,
            "question": "Which?",
            "hint": "Look.",
            "A": "cat",
            "B": 4,
            "C": None,
            "answer": "B",
            "prediction": "B",
        },
        {
            "index": 1000005,
            "question": "Which?",
            "hint": "",
            "A": 4,
            "B": "cat",
            "C": "",
            "answer": "A",
            "prediction": "B",
        },
    ]
    files = {m: write(tmp_path / str(m) / "llava_MMBench_DEV_EN.json", json.dumps(rows)) for m in LADDER}
    outcomes = vlmevalkit.read(files, "mmbench", "mmbench")
    assert outcomes.group.tolist() == ["mmbench/5", "mmbench/5"] and outcomes.score.tolist() == [[1, 1], [0, 0]]
    assert outcomes.question.tolist() == ["Look.\nWhich?\nA. cat\nB. 4", "Which?\nA. 4\nB. cat"]
    assert set(vlmevalkit.read(files, "mmbench").dataset.tolist()) == {"llava_MMBench_DEV_EN"}
    for path in files.values():
        path.write_text(json.dumps([row | {"image_path": f"{row['index']}.jpg"} for row in rows]))
    assert vlmevalkit.read(files, "mmbench").group.tolist() == ["5.jpg", "1000005.jpg"]


def test_lists_of_gold_answers_are_read_as_python_writes_them(tmp_path):
    files = {m: kit_file(tmp_path, m, scored=None, answer="['maybe', \"it's No\", 'YES']") for m in LADDER}
    assert vlmevalkit.read(files, "exact").score[1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question": "Is there a bus?"}, r"'question' of '1' must agree across m, was: 'Is there a bus\?' at m 64"),
        ({"answer": "yes"}, r"m3-64_pope.tsv, line 3: 'answer' of '1' must agree"),
        ({"answer": None}, "'answer' of '1' must agree across m, was: None"),
        ({"hint": "Look."}, "'hint' of '1' must agree"),
        ({"index": 9}, "missing: '9' at m 16|missing: '1' at m 64"),
        ({"index": 0}, "line 3: a question is answered once per m, was twice at m 64: '0'"),
        ({"index": None}, "line 3: a row must have the field 'index'"),
        ({"score": None}, "line 3: a prediction needs a score, in a column 'hit' or 'score'.*'?give the scored file"),
        ({"score": 7}, r"line 3: the score 'score' must lie in \[0, 1\], was: 7"),
        ({"prediction": "Failed to obtain answer via API."}, "line 3: a prediction must be an answer"),
    ],
)
def test_prediction_files_that_do_not_fit_are_named(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        vlmevalkit.read({16: kit_file(tmp_path, 16), 64: kit_file(tmp_path, 64, **changed)})


def test_prediction_tables_that_cannot_be_read_are_named(tmp_path):
    good = kit_file(tmp_path, 16)
    for name, text, message in [
        ("a.tsv", "index\tquestion\n1\tq\n", "line 2: a prediction file must have the column 'prediction'"),
        ("a.json", '{"index": 1}', "line 1: a prediction file must have the column 'prediction', was: 'only index'"),
        ("a.json", "[1]", "row 1: a row must be a JSON object"),
        ("a.json", '[{"index": ', "a.json, line 1: must be valid JSON"),
        ("a.pkl", "x", "must be .xlsx, .tsv, .csv or .json, was: 'a.pkl'"),
    ]:
        with pytest.raises(DataError, match=message):
            vlmevalkit.read({16: good, 64: write(tmp_path / name, text)})
    with pytest.raises(DataError, match=r"nowhere\.tsv"):
        vlmevalkit.read({16: good, 64: tmp_path / "nowhere.tsv"})
    with pytest.raises(DataError, match=r"m3-16_pope.tsv, line 2: .*needs at least 4 answers"):
        vlmevalkit.read({16: good, 64: kit_file(tmp_path, 64)}, "vqa")


# answer files -------------------------------------------------------------------------------------------------------


def answer_file(tmp_path, m, rows):
    return write(tmp_path / f"{m}.jsonl", lines(rows))


def pope_data(tmp_path):
    """POPE by its label files alone, whose numbers start anew in each."""
    for category in ("random", "popular"):
        labels = [
            {"question_id": k + 1, "image": f"{k % 2}.jpg", "text": QUESTIONS[k], "label": GOLD[k]} for k in range(4)
        ]
        write(tmp_path / "pope" / f"coco_pope_{category}.json", lines(labels))
    return tmp_path / "pope"


def pope_answers(tmp_path, m, **changed):
    rows = [
        {"question_id": k + 1, "category": category, "prompt": QUESTIONS[k], "text": SAID[m][k]}
        for category in ("random", "popular")
        for k in range(4)
    ]
    rows[1] |= changed
    return answer_file(tmp_path, m, rows)


def test_answer_files_are_scored_by_their_benchmark(tmp_path):
    outcomes = answers.read("pope", pope_data(tmp_path), {m: pope_answers(tmp_path, m) for m in LADDER})
    assert outcomes.id.tolist() == [f"{category}/{k}" for category in ("random", "popular") for k in (1, 2, 3, 4)]
    assert outcomes.score.tolist() == [[1, 1], [0, 1], [1, 1], [0, 1]] * 2  # POPE takes an empty answer for a yes
    assert outcomes.text.tolist()[:2] == [["Yes", "Yes"], ["yes", "No"]] and outcomes.question[0] == QUESTIONS[0]
    assert outcomes.group.tolist() == ["0.jpg", "1.jpg"] * 4 and set(outcomes.dataset.tolist()) == {"pope"}
    assert outcomes.meta[0]["category"] == "random" and outcomes.unit == "tokens" and outcomes.m.tolist() == [16, 64]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question_id": 9}, "16.jsonl, line 2: every answer must belong to a question, was: '9"),
        ({"category": None}, "line 2: ids start anew in every label file, so answers need a category.*, was: '2'"),
        ({"question_id": 1}, r"line 2: a question may be answered once \(also in line 1\), was: '1"),
        ({"category": "popular"}, r"line 6: a question may be answered once \(also in line 2\), was: '2"),
        (
            {"prompt": "Is it?"},
            r"'prompt' of 'random/2' must agree across m, was: .*at m 64 and 'Is it\?' in 16.jsonl, l",
        ),
        ({"text": None}, "line 2.*'text'"),
    ],
)
def test_answer_files_that_do_not_fit_are_named(tmp_path, changed, message):
    files = {16: pope_answers(tmp_path, 16, **changed), 64: pope_answers(tmp_path, 64)}
    with pytest.raises(DataError, match=message):
        answers.read("pope", pope_data(tmp_path), files)


def test_a_number_alone_is_enough_where_one_category_is_read(tmp_path):
    rows = [{"question_id": k + 1, "text": SAID[16][k]} for k in range(4)]
    files = {m: answer_file(tmp_path, m, rows) for m in LADDER}
    outcomes = answers.read("pope", pope_data(tmp_path), files, split="random")
    assert outcomes.id.tolist() == ["random/1", "random/2", "random/3", "random/4"]
    with pytest.raises(DataError, match="line 1: ids start anew in every label file"):
        answers.read("pope", pope_data(tmp_path), files)


def test_a_number_of_a_category_that_is_not_read_belongs_to_no_question(tmp_path):
    """It once passed for the same number of the one category that was read."""
    files = {m: pope_answers(tmp_path, m) for m in LADDER}
    with pytest.raises(DataError, match=r"16\.jsonl, line 5: every answer must belong to a question, was: '1 "):
        answers.read("pope", pope_data(tmp_path), files, split="random")


def test_a_question_without_an_answer_is_named(tmp_path):
    files = {m: pope_answers(tmp_path, m) for m in LADDER}
    files[64].write_text("".join(files[64].read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"64\.jsonl: every question must have .*: 1 of 8 without, such as popular/4"):
        answers.read("pope", pope_data(tmp_path), files)


def test_what_is_bad_at_one_m_is_left_out_at_every_m_and_counted(tmp_path):
    data, files = pope_data(tmp_path), {m: pope_answers(tmp_path, m) for m in LADDER}
    labels = data / "coco_pope_random.json"
    labels.write_text(labels.read_text().replace('"label": "yes"', '"label": "maybe"', 1))
    files[64].write_text(files[64].read_text().replace('"text": "No"', '"text": true', 1))
    with pytest.raises(DataError, match="skip bad rows"):
        answers.read("pope", data, files)
    tally = Tally(skip_bad=True)
    outcomes = answers.read("pope", data, files, tally=tally)
    assert outcomes.id.tolist() == ["random/3", "random/4", *(f"popular/{k}" for k in (1, 2, 3, 4))]
    assert (
        tally.bad == 4 and "coco_pope_random.json, line 1" in tally.messages[0]
    )  # label, two answers to it, a torn one


def test_whether_an_answer_could_be_read_is_kept(tmp_path):
    files = {m: kit_file(tmp_path, m, scored=None, answer="yes") for m in LADDER}
    assert vlmevalkit.read(files, "mme").parsed.tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
    assert vlmevalkit.read({m: kit_file(tmp_path, m) for m in LADDER}).parsed is None
    problems = {"0": {"question": "Which?", "choices": ["x", "y"], "answer": 0, "image": "image.png"}}
    write(tmp_path / "s" / "problems.json", json.dumps(problems, indent=1))
    write(tmp_path / "s" / "pid_splits.json", json.dumps({"test": ["0"]}, indent=1))
    said = {16: "perhaps", 64: "A"}
    files = {m: answer_file(tmp_path, m, [{"question_id": "0", "text": text}]) for m, text in said.items()}
    outcomes = answers.read("scienceqa", tmp_path / "s", files)
    assert outcomes.parsed.tolist() == [[0, 1]]
    again = Outcomes.load(outcomes.save(tmp_path / "o.sqlite"))
    assert again.parsed.tolist() == [[0, 1]] and again.digest() == outcomes.digest()


def test_both_questions_of_an_mme_picture_find_their_own(tmp_path):
    asked = [f"Is it {thing}?  Please answer yes or no." for thing in ("art", "code")]
    write(tmp_path / "mme" / "artwork" / "10002.b.txt", f"{asked[0]}\tYes\n{asked[1]}\tNo\n")
    rows = [
        {
            "question_id": "artwork/images/10002.b.jpg",
            "prompt": prompt.replace("  ", " ") + "\nAnswer with one word.",
            "text": "No",
        }
        for prompt in reversed(asked)
    ]
    outcomes = answers.read("mme", tmp_path / "mme", {m: answer_file(tmp_path, m, rows) for m in LADDER})
    assert dict(zip(outcomes.id.tolist(), outcomes.score[:, 0], strict=True)) == {
        "artwork/10002.b#1": 0,
        "artwork/10002.b#2": 1,
    }
    assert outcomes.group.tolist() == ["artwork/10002.b"] * 2


def test_textvqa_is_joined_on_picture_and_prompt_even_where_a_question_is_asked_twice(tmp_path):
    gold = [["one"] * 10, ["two"] * 10, ["no"] * 10]
    data = [
        {"question": "How many?" if k < 2 else "Is it?", "image_id": "0a.b", "question_id": k, "answers": gold[k]}
        for k in range(3)
    ]
    write(tmp_path / "textvqa" / "TextVQA_0.5.1_val.json", json.dumps({"data": data}))
    prompts = ["How many?\nReference OCR token: 1", "How many?\nReference OCR token: 1", "Is it?"]
    rows = [
        {"question_id": "0a.b", "prompt": prompts[k], "text": text} for k, text in enumerate(("One.", "One.", "No"))
    ]
    outcomes = answers.read("textvqa", tmp_path / "textvqa", {m: answer_file(tmp_path, m, rows) for m in LADDER})
    assert outcomes.id.tolist() == ["0", "1", "2"] and outcomes.score[:, 0].tolist() == [1, 0, 1]


def test_raw_answers_are_prepared_as_for_the_server_and_served_ones_are_not_again(tmp_path):
    """EvalAI's processor parts "'s" from its word, which then misses a gold answer that all ten gave alike."""
    asked = [{"image_id": 1, "question": "Whose?", "question_id": 7}]
    labels = [{"question_id": 7, "answers": [{"answer": "dog's"}] * 10}]
    write(tmp_path / "v" / "v2_OpenEnded_mscoco_val2014_questions.json", json.dumps({"questions": asked}))
    write(tmp_path / "v" / "v2_mscoco_val2014_annotations.json", json.dumps({"annotations": labels}))
    served = write(tmp_path / "served.json", json.dumps([{"question_id": 7, "answer": "dog's"}]))
    raw = answer_file(tmp_path, 4, [{"question_id": 7, "text": "dog's"}])
    assert answers.read("vqav2", tmp_path / "v", {1: served, 4: raw}).score.tolist() == [[1, 0]]


def test_gqa_predictions_are_compared_as_they_are_and_raw_answers_in_lower_case(tmp_path):
    question = {"question": "Whose?", "imageId": "1", "answer": "dog", "isBalanced": True}
    write(tmp_path / "g" / "testdev_balanced_questions.json", json.dumps({"7": question}, indent=1))
    served = write(tmp_path / "served.json", json.dumps([{"questionId": "7", "prediction": "Dog."}]))
    raw = answer_file(tmp_path, 4, [{"question_id": "7", "text": "Dog."}])
    assert answers.read("gqa", tmp_path / "g", {1: served, 4: raw}).score.tolist() == [[0, 1]]


def test_questions_without_a_picture_are_left_out(tmp_path):
    problems = {
        str(k): {"question": "Which?", "choices": ["x", "y"], "answer": 0, "image": "image.png" if k else None}
        for k in range(2)
    }
    write(tmp_path / "s" / "problems.json", json.dumps(problems, indent=1))
    write(tmp_path / "s" / "pid_splits.json", json.dumps({"test": ["0", "1"]}, indent=1))
    files = {m: answer_file(tmp_path, m, [{"question_id": str(k), "text": "A"} for k in range(2)]) for m in LADDER}
    outcomes = answers.read("scienceqa", tmp_path / "s", files)
    assert outcomes.id.tolist() == ["1"] and outcomes.score.tolist() == [[1, 1]]
    files[16].write_text(lines([{"question_id": "1", "text": "A"}]))  # nor need they be answered
    assert answers.read("scienceqa", tmp_path / "s", files).id.tolist() == ["1"]


# ladder -------------------------------------------------------------------------------------------------------------


def test_m_are_given_with_their_paths():
    ladder = parse_ladder(["64=b.jsonl", "16 = a=1.jsonl"])
    assert [(m, str(path)) for m, path in ladder.items()] == [(16, "a=1.jsonl"), (64, "b.jsonl")]
    assert [str(path) for path in parse_logs(["logs/m16", "./m=64/x"])] == ["logs/m16", "m=64/x"]
    assert parse_logs(["64=b.jsonl", "16=a=1.jsonl"]) == ladder


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a.jsonl"], "a log is given with its m, as 16=PATH, was: 'a.jsonl'"),
        (["16="], "as 16=PATH, was: '16='"),
        (["m16=a"], "m must be a whole number of at least 1, was: 'm16' in 'm16=a'"),
        (["0=a"], "was: '0'"),
        (["-1=a"], "was: '-1'"),
        (["²=a"], "was: '²'"),
        (["16=a", "016=b"], "each m has one log, was twice: 16, for a and b"),
    ],
)
def test_a_ladder_of_another_form_is_refused(texts, message):
    for parse in (parse_ladder, parse_logs) if "=" in texts[0] else (parse_ladder,):
        with pytest.raises(DataError, match=message):
            parse(texts)


def test_an_m_given_for_some_logs_only_is_refused():
    with pytest.raises(DataError, match="was: 'logs/m64'"):
        parse_logs(["16=logs/m16", "logs/m64"])
