"""The measuring commands, as typed: what they print, and one line for what goes wrong."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from router.commands import app
from training_data.outcomes import Outcomes

runner = CliRunner()


def run(*words):
    return runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def table(tmp_path):
    """A table of 40 questions about 20 pictures, three m; half of them need the most."""
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.csv"
    lines = ["id,question,m,score,image,dataset"]
    for k in range(40):
        needed = int(rng.integers(0, 3))
        lines += [
            f"q{k},how many <b>things</b>?,{m},{int(rung >= needed)},p{k // 2}.png,{'ab'[k % 2]}"
            for rung, m in enumerate((1, 16, 144))
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_sweep_then_analyse(tmp_path):
    out = tmp_path / "o.sqlite"
    done = run("sweep", "--data", "scenes:a:test:6:2", "--out", out, "--workers", 1, "--batch-size", 6)
    assert done.exit_code == 0, done.output
    outcomes = Outcomes.load(out)
    assert len(outcomes) == 12 and outcomes.m.tolist() == [1, 2, 4, 8, 16, 36, 64, 144]
    assert outcomes.features is not None and outcomes.meta[0]["style"] == "a"
    again = run("sweep", "--data", "scenes:a:test:6:3", "--out", out)
    assert again.exit_code == 2 and "error: o.sqlite goes on only with what it was begun with; data" in again.output


def test_the_report_of_a_sweep_shows_its_pictures_without_being_told_where_they_are(tmp_path, monkeypatch):
    """The README's two commands; the page had no contact sheet, for the file held only a digest of the data."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = []
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(f"{k}.png")
        rows.append({"image": f"{k}.png", "question": "what colour is the ground", "answer": "red"})
    (tmp_path / "torn.png").write_bytes(b"nothing")
    rows.append(rows[0] | {"image": "torn.png"})
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, rows)))
    assert run("sweep", "--data", "questions.jsonl", "--out", "o.sqlite", "--workers", 1).exit_code == 0
    text = Outcomes.load("o.sqlite").text.tolist()[0][-1]
    for row in rows:  # what the model says is right: every picture has a solved question
        row["answer"] = text or "red"
    questions.write_text("\n".join(map(json.dumps, rows)))
    assert run("sweep", "--data", "questions.jsonl", "--out", "p.sqlite", "--workers", 1).exit_code == 0
    told = run("analyse", "p.sqlite", "--out", "report", "--points", 30)
    assert told.exit_code == 0 and "1 examples were not measured" in told.stdout
    page = (tmp_path / "report" / "report.html").read_text()
    assert "not at hand" not in page and "The least" in page and "within 30 points of the best" in page
    questions.write_text("\n".join(map(json.dumps, rows[:-1])))
    told = run("analyse", "p.sqlite", "--out", "again")
    assert "the data that was measured is elsewhere, or has changed; give --data" in told.stderr
    assert "pictures were not at hand" in (tmp_path / "again" / "report.html").read_text()


def test_pictures_that_a_table_names_are_shown(tmp_path, monkeypatch):
    for k in range(6):
        Image.new("RGB", (40, 30), "red").save(tmp_path / f"{k}.png")
    said = [f"q{k},what {k},{k}.png,{arm},{int(arm > 3 or k > 2)},{arm}" for k in range(6) for arm in (1, 9)]
    (tmp_path / "mine.csv").write_text("\n".join(["id,question,image,m,score,cost", *said]) + "\n")
    monkeypatch.chdir(tmp_path.parent)
    assert run("analyse", tmp_path / "mine.csv", "--out", tmp_path / "report").exit_code == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "not at hand" not in page and page.count("data:image/png") > 6
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "o.sqlite"
    assert run("import", "table", tmp_path / "mine.csv", "--out", out).exit_code == 0
    assert run("analyse", out, "--data", tmp_path, "--out", tmp_path / "again").exit_code == 0
    assert "not at hand" not in (tmp_path / "again" / "report.html").read_text()


def test_a_table_is_imported_and_analysed(table, tmp_path):
    out = tmp_path / "o.sqlite"
    assert run("import", "table", table, "--out", out).exit_code == 0
    assert Outcomes.load(out).unit == "tokens"
    told = run("analyse", out, "--out", tmp_path / "report")
    assert told.exit_code == 0 and "hindsight adds" in told.stdout
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<b>things" not in page


def test_answers_are_imported_with_their_benchmark(tmp_path):
    data = tmp_path / "pope"
    data.mkdir()
    labels = [
        {"question_id": k, "image": f"{k}.jpg", "text": f"Is there a cup {k} in the image?", "label": "yn"[k % 2]}
        for k in range(4)
    ]
    for label in labels:
        label["label"] = {"y": "yes", "n": "no"}[label["label"]]
    (data / "coco_pope_random.json").write_text("\n".join(map(json.dumps, labels)))
    for m, text in ((16, "yes"), (64, "no")):
        rows = [{"question_id": k, "prompt": labels[k]["text"], "text": text} for k in range(4)]
        (tmp_path / f"{m}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [f"--answers={m}={tmp_path / f'{m}.jsonl'}" for m in (16, 64)]
    done = run("import", "answers", "--benchmark", "pope", "--data", data, *given, "--out", tmp_path / "o.sqlite")
    assert done.exit_code == 0, done.output
    assert Outcomes.load(tmp_path / "o.sqlite").score.mean(0).tolist() == [0.5, 0.5]
    figures = run("score", "pope", "--data", data, "--answers", tmp_path / "16.jsonl", "--json")
    assert json.loads(figures.stdout)["random"]["recall"] == 100
    assert "random yes_rate" in run("score", "pope", "--data", data, "--answers", tmp_path / "16.jsonl").stdout
    assert json.loads(figures.stdout).keys() == {"random", "mean"}
    _bad_rows_are_skipped_where_asked(data, tmp_path, given)


def _bad_rows_are_skipped_where_asked(data, folder, given):
    labels = data / "coco_pope_random.json"
    labels.write_text(labels.read_text().replace('"label": "yes"', '"label": "maybe"', 1))
    scored = ("score", "pope", "--data", data, "--answers", folder / "16.jsonl")
    imported = ("import", "answers", "--benchmark", "pope", "--data", data, *given, "--out", folder / "p.sqlite")
    for words in (scored, imported):
        assert "skip bad rows" in run(*words).stderr
    figures = json.loads(run(*scored, "--skip-bad", "--json").stdout)
    assert figures.keys() == {"random", "mean", "skipped"}
    assert (figures["skipped"]["questions"], figures["skipped"]["answers"]) == (1, 1)
    assert "skipped answers" in run(*scored, "--skip-bad").stdout
    done = run(*imported, "--skip-bad")
    assert done.exit_code == 0 and "skipped 3 bad rows, the first: coco_pope_random.json, line 1" in done.stderr
    assert len(Outcomes.load(folder / "p.sqlite")) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweep", "--data", "nowhere.jsonl", "--out", "OUT"), "nowhere.jsonl"),
        (("sweep", "--data", "scenes:q", "--out", "OUT"), "scenes are named"),
        (("sweep", "--data", "scenes:a:test:2", "--out", "OUT", "--backbone", "nobody"), "nobody"),
        (("analyse", "nowhere.sqlite", "--out", "OUT"), "must exist, was: nowhere.sqlite"),
        (("score", "imagenet", "--answers", "x.jsonl"), "was: 'imagenet'"),
        (("score", "pope", "--answers", "x.jsonl"), "need its data folder"),
        (("import", "table", "nowhere.csv", "--out", "OUT"), "nowhere.csv"),
        (("import", "vlmevalkit", "a.tsv", "--out", "OUT"), "16=PATH"),
        (("import", "lmms-eval", "nowhere", "--out", "OUT"), "nowhere"),
        (("sweep", "--data", "scenes:a:test:2", "--out", "."), "a file was to be written"),
        (("sweep", "--data", "scenes:a:test:2", "--out", "OUT", "--ladder", "1;4"), "parted by commas"),
        (("import", "table", "TABLE", "--out", "nowhere/o.csv"), "o.csv needs a folder that exists"),
        (("features", "nowhere.sqlite", "--data", "scenes:a:test:2"), "nowhere.sqlite"),
    ],
)
def test_what_goes_wrong_is_one_line(words, message, table, tmp_path):
    places = {"OUT": tmp_path / "out", "TABLE": table}
    failed = run(*[places.get(word, word) for word in words])
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1 and message in failed.stderr
