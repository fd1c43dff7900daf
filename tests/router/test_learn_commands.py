"""The commands that learn to spend and decide, as typed: what they print, and one line for what goes wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_outcomes
from PIL import Image
from test_deciding import swept
from typer.testing import CliRunner

from encoders import loading
from router import Router
from router.commands import app
from router.saving import FORMAT

SIGN = Path(__file__).parents[2] / "examples" / "sign.png"
FORMS = "a budget must be written as '64', 'cap 1.5 tflops', 'mean 16 tokens'"


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def worked(*words):
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done


def modules_after(*words):
    """(what a command prints, the modules that it loaded), in a process of its own."""
    code = f"import sys; from router.commands import app; app({[str(word) for word in words]!r}, standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.stderr.write(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, set(done.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """train.csv and test.csv, without pictures; cost is in tokens."""
    folder = tmp_path_factory.mktemp("tables")
    for name, pictures, seed in (("train", 160, 6), ("test", 120, 7)):
        make_outcomes(pictures, seed, features=False, unit="tokens").save(folder / f"{name}.csv")
    return folder


@pytest.fixture(scope="module")
def saved(tables):
    """A router folder, fitted by the command."""
    worked("fit", tables / "train.csv", "--out", tables / "router")
    return tables / "router"


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save_pretrained(folder)
    assert loading.load(folder).fingerprint == tiny.fingerprint
    return folder


@pytest.fixture(scope="module")
def own(tiny, tmp_path_factory):
    """The folder of a router for the tiny backbone."""
    return swept(tiny)[2].save(tmp_path_factory.mktemp("routers") / "own")


@pytest.fixture
def questions(tiny, tmp_path):
    """Six questions of a user's own about three pictures, one of which is missing; no answers."""
    examples, asked = swept(tiny)[0], []
    for k in (0, 2, 4):
        examples[k].image.save(tmp_path / f"{k}.png")
        asked += [{"image": f"{k}.png", "question": "what number is written"}, {"image": f"{k}.png", "question": "hm"}]
    asked[3]["image"] = "gone.png"
    asked[5]["id"] = "the last"
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, asked)) + "\n")
    return path


# ---- fit, evaluate, study


def test_a_fitted_router_is_a_folder_with_its_card(tables, saved):
    assert Router.load(saved).arms == ("1", "4", "16", "64")
    again = worked("fit", tables / "train.csv", "--out", tables / "again", "--seed", 1, "--head", "ordinal")
    assert again.stdout.strip() == (tables / "again" / "README.md").read_text(encoding="utf-8").strip()
    assert "head ordinal, seed 1" in again.stdout


def test_evaluate_prints_the_keys_that_others_read(tables, saved):
    told = json.loads(worked("evaluate", saved, tables / "test.csv", "--json", "--at", "30,60").stdout)
    for name in ("curve", "hull", "oracle", "oracle_full_charge"):
        assert all(len(point) == 2 for point in told[name]) and len(told[name]) >= 2
        costs = [cost for cost, _ in told[name]]
        assert costs == sorted(costs) and all(0 <= score <= 1 for _, score in told[name])
    low, high = told["gap_recovered_interval"]
    assert low <= told["gap_recovered"] <= high
    assert isinstance(told["gap_recovered_linear"], float)
    assert list(told["score_at_cost"]) == ["30", "60"] and 0 < told["score_at_cost"]["30"] < told["score_at_cost"]["60"]
    again = json.loads(json.dumps(Router.load(saved).evaluate(tables / "test.csv", at=[30, 60]).to_json()))
    assert told.pop("router_ms") > 0 and again.pop("router_ms") > 0 and told == again


def test_evaluate_prints_a_table(tables, saved):
    told = worked("evaluate", saved, tables / "test.csv", "--resamples", 20, "--at", " 30, 1e9").stdout
    assert "gap recovered, share of area" in told and "at cost 30 " in told and "at cost 1000000000" in told


def test_evaluate_writes_a_report(tables, saved):
    told = worked("evaluate", saved, tables / "test.csv", "--resamples", 20, "--out", tables / "evaluated")
    page = (tables / "evaluated" / "report.html").read_text(encoding="utf-8")
    assert "this router" in page and "report: " in told.stderr


def test_tables_are_learnt_from_and_judged_without_torch(tables, saved):
    """Nor are the estimators' libraries loaded to judge: a router is arrays."""
    _, loaded = modules_after("fit", tables / "train.csv", "--out", tables / "light")
    assert not loaded & {"torch", "transformers"} and "lightgbm" in loaded
    told, loaded = modules_after("evaluate", saved, tables / "test.csv", "--json", "--at", "30,60", "--resamples", 20)
    assert not loaded & {"torch", "transformers", "lightgbm", "sklearn"}
    assert list(json.loads(told)["score_at_cost"]) == ["30", "60"]


def test_loading_torch_would_be_seen(model, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    told, loaded = modules_after("route", tmp_path / "a.png", "hm", "--budget", 5, "--backbone", model)
    assert "torch" in loaded and told == "5\n"


def test_study_prints_the_parts_that_were_asked_for(tables):
    words = ("study", tables / "train.csv", tables / "test.csv", "--resamples", 10, "--parts")
    lines = worked(*words, "permuted, nulls").stdout.splitlines()
    assert [line for line in lines if line.startswith("-- ")] == ["-- permuted", "-- nulls"]
    names = ["permuted labels", "shuffled router (same m)", "question only", "logistic regression per arm"]
    assert all(any(line.startswith(f"{name}  ") for line in lines) for name in names)
    told = json.loads(worked(*words, "permuted", "--json").stdout)
    assert [row["name"] for row in told["rows"]] == names[:1] and told["router"]["rows"] == 240


def test_study_without_a_test_table_holds_pictures_out(tables, tmp_path):
    words = ("study", tables / "train.csv", "--parts", "nulls", "--resamples", 5, "--json", "--out", tmp_path / "page")
    done = worked(*words)
    told = json.loads(done.stdout)["router"]
    assert told["shared_pictures"] == 0 and 0.25 * 160 <= told["pictures"] <= 0.35 * 160
    assert (tmp_path / "page" / "report.html").is_file() and "report: " in done.stderr


# ---- route, explain, answer


def test_route_prints_m_alone_and_the_reason_beside_it(model, own, questions):
    picture = questions.parent / "0.png"
    words = (picture, "hm", "--router", own, "--backbone", model, "--budget")
    done = worked("route", *words, "5")
    m = int(done.stdout)
    assert m <= 5 and done.stderr == "the best value within cap 5 tokens\n"
    told = json.loads(worked("route", *words, "cap 5 tokens", "--json").stdout)
    assert told.keys() == {"m", "arm", "curve", "price", "unit", "reason"}
    assert (told["m"], told["arm"], told["unit"]) == (m, str(m), "tflops")
    assert list(told["curve"]) == ["1", "2", "5", "9", "16"]
    answered = worked("answer", *words, "5", "--json")
    assert json.loads(answered.stdout)["m"] == m


def test_explain_prints_five_lines_at_most(model, own, questions):
    told = worked("explain", questions.parent / "0.png", "hm", "--router", own, "--backbone", model).stdout
    assert told.startswith("m=") and "expected score: 1: " in told and "price: " in told and told.count("\n") <= 5


@pytest.mark.parametrize("backbone", ["nano-mqt", "nano-m3"])
def test_packaged_models_are_routed_with_or_without_a_shipped_router(backbone):
    words = (SIGN, "what number is written", "--backbone", backbone)
    m = int(worked("route", *words, "--budget", 64).stdout)
    ladder = loading.packaged()[backbone].ladder
    assert m <= 64 and m in ladder
    assert int(worked("route", *words).stdout) in ladder
    assert worked("explain", *words, "--budget", 64).stdout.startswith(f"m={m}: ")
    assert json.loads(worked("answer", *words, "--budget", 64, "--json").stdout)["m"] == m


# ---- batch


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_questions_without_answers_are_answered_in_their_order(model, own, questions, tmp_path):
    out = tmp_path / "answers.jsonl"
    words = ("--router", own, "--backbone", model, "--budget", "mean 4 tokens")
    done = worked("batch", questions, "--out", out, *words)
    told = lines(out)
    assert [row["id"] for row in told] == ["1", "2", "3", "4", "5", "the last"]
    assert "readable file" in told[3].pop("error") and told.pop(3) == {"id": "4"}
    assert all(row.keys() == {"id", "answer", "m", "visual_tokens", "tflops", "logprob"} for row in told)
    mean = sum(row["visual_tokens"] for row in told) / 5
    assert 1 < mean <= 4 and done.stderr.endswith(f"5 answers, {mean:.2f} visual tokens each, 1 errors\n")
    assert done.stdout == ""


def test_a_table_of_questions_is_answered_too(model, questions, tmp_path):
    path, out = questions.with_suffix(".csv"), tmp_path / "answers.jsonl"
    path.write_text("image,question\n0.png,hm\n2.png,what number is written\n")
    worked("batch", path, "--out", out, "--backbone", model, "--budget", 5)
    assert [row["m"] for row in lines(out)] == [5, 5]


def test_scenes_are_answered_by_the_packaged_model(tmp_path):
    out = tmp_path / "answers.jsonl"
    worked("batch", "scenes:a:test:3:2", "--out", out, "--budget", 8)
    assert len(lines(out)) == 6 and max(row["visual_tokens"] for row in lines(out)) <= 8


def test_a_file_of_answers_is_never_overwritten(model, questions, tmp_path):
    out = tmp_path / "answers.jsonl"
    out.write_text("paid for")
    failed = run("batch", questions, "--out", out, "--backbone", model, "--budget", 5)
    assert failed.exit_code == 2 and "which is there; name another" in failed.stderr
    assert out.read_text() == "paid for"


@pytest.mark.parametrize("budget", ["mean 0.5", "mean 3 dollars", "cap 1e-9 tflops"])
def test_a_budget_that_cannot_be_met_leaves_no_file_in_the_way(model, own, questions, tmp_path, budget):
    """An empty file was left, and the mended command was refused because it was there."""
    out = tmp_path / "answers.jsonl"
    words = ("batch", questions, "--out", out, "--router", own, "--backbone", model, "--budget")
    failed = run(*words, budget)
    assert failed.exit_code == 2 and failed.stderr.splitlines()[-1].startswith("error: ") and not out.exists()
    worked(*words, "mean 3")


# ---- what goes wrong


@pytest.mark.parametrize("text", ["lots", "mean", "sixteen tokens", "mean 1.2.3", "median 16", "", "mean -4 tokens"])
@pytest.mark.parametrize("command", ["answer", "route", "explain", "batch"])
def test_a_budget_of_another_form_is_told_the_forms(command, text, model, questions, tmp_path):
    words = [questions, "--out", tmp_path / "out"] if command == "batch" else [questions.parent / "0.png", "hm"]
    failed = run(command, *words, "--backbone", model, "--budget", text)
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1 and FORMS in failed.stderr
    assert f"was: {text!r}" in failed.stderr


def damaged(saved, folder, how):
    shutil.copytree(saved, folder)
    config = folder / "config.json"
    match how:
        case "torn":
            config.write_text(config.read_text()[:100])
        case "list":
            config.write_text("[]")
        case "format":
            config.write_text(config.read_text().replace(f'"format": {FORMAT}', '"format": 99'))
        case "byte":
            content = bytearray((folder / "readout.safetensors").read_bytes())
            content[-1] ^= 1
            (folder / "readout.safetensors").write_bytes(content)
        case "file":
            (folder / "calibration.safetensors").unlink()
    return folder


@pytest.mark.parametrize("how", ["torn", "list", "format", "byte", "file"])
@pytest.mark.parametrize("command", ["evaluate", "route", "batch"])
def test_a_damaged_router_is_one_line(how, command, saved, tables, model, questions, tmp_path):
    folder = damaged(saved, tmp_path / "damaged", how)
    words = {
        "evaluate": [folder, tables / "test.csv"],
        "route": [questions.parent / "0.png", "hm", "--router", folder, "--backbone", model],
        "batch": [questions, "--out", tmp_path / "out", "--router", folder, "--backbone", model],
    }
    failed = run(command, *words[command])
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1 and "Traceback" not in failed.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "nowhere.csv", "--out", "OUT"), "nowhere.csv"),
        (("fit", "nowhere.sqlite", "--out", "OUT"), "nowhere.sqlite"),
        (("fit", "TRAIN", "--out", "OUT", "--head", "best"), "head must be 'gain' or 'ordinal', was: 'best'"),
        (("fit", "TRAIN", "--out", "TABLES"), "a folder of its own"),
        (("fit", "FEW", "--out", "OUT"), "needs 100 pictures or more, was: 20"),
        (("evaluate", "nowhere", "TEST"), "a router is a folder with a config.json, was: 'nowhere'"),
        (("evaluate", "TABLES", "TEST"), "a router is a folder with a config.json"),
        (("evaluate", "ROUTER", "nowhere.csv"), "nowhere.csv"),
        (("evaluate", "ROUTER", "TEST", "--at", "30;60"), "numbers parted by commas, was: '30;60'"),
        (("evaluate", "ROUTER", "TEST", "--at", "-1"), "positive numbers, was: -1.0"),
        (("evaluate", "ROUTER", "TEST", "--at", "nan"), "positive numbers, was: nan"),
        (("evaluate", "ROUTER", "OTHER"), "outcomes without '64'"),
        (("study", "TRAIN", "TEST", "--parts", "null"), "parts of a study are nulls, "),
        (("study", "nowhere.csv"), "nowhere.csv"),
        (("study", "TRAIN", "nowhere.csv"), "nowhere.csv"),
        (("route", "no.png", "hm", "--backbone", "MODEL"), "must name a readable file, was: 'no.png'"),
        (("route", "PICTURE", " ", "--backbone", "MODEL"), "at least one visible character"),
        (("explain", "PICTURE", "", "--backbone", "MODEL"), "at least one visible character"),
        (("route", "PICTURE", "hm", "--backbone", "nobody"), "was: 'nobody'"),
        (("route", "PICTURE", "hm", "--backbone", "MODEL", "--router", "nowhere"), "was: 'nowhere'"),
        (("route", "PICTURE", "hm", "--backbone", "MODEL", "--router", "ROUTER"), "fitted on a table of no backbone"),
        (("route", "PICTURE", "hm", "--backbone", "MODEL", "--budget", "mean 4"), "give a router"),
        (("route", "PICTURE", "hm", "--router", "OWN"), "fitted on tiny-mqt"),
        (("explain", "PICTURE", "hm", "--backbone", "MODEL", "--router", "OWN", "--budget", "mean 4 ms"), "a latency"),
        (("batch", "no.jsonl", "--out", "OUT", "--backbone", "MODEL"), "no.jsonl"),
        (("batch", "TABLES", "--out", "OUT", "--backbone", "MODEL"), "must be readable"),
        (("batch", "scenes:q", "--out", "OUT"), "scenes are named"),
        (("batch", "QUESTIONS", "--out", "OUT", "--backbone", "MODEL", "--budget", "mean 4"), "shared out by a router"),
        (("batch", "QUESTIONS", "--out", "OUT", "--backbone", "nobody"), "was: 'nobody'"),
        (("batch", "QUESTIONS", "--out", "nowhere/out.jsonl", "--backbone", "MODEL"), "'nowhere/out.jsonl'"),
    ],
)
def test_what_goes_wrong_is_one_line(words, message, tables, saved, model, own, questions, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-profiles"))
    few, other = tmp_path / "few.csv", tmp_path / "other.csv"
    make_outcomes(20, features=False, unit="tokens").save(few)
    make_outcomes(20, features=False, unit="tokens").take_arms([0, 1, 2]).save(other)
    places = {"TRAIN": tables / "train.csv", "TEST": tables / "test.csv", "TABLES": tables, "ROUTER": saved}
    places |= {"FEW": few, "OTHER": other, "OUT": tmp_path / "out", "QUESTIONS": questions}
    places |= {"MODEL": model, "OWN": own, "PICTURE": questions.parent / "0.png"}
    failed = run(*[places.get(word, word) for word in words])
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1 and message in failed.stderr
    assert "Traceback" not in failed.output and not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_told_before_the_fit(tables, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    monkeypatch.setattr(Router, "fit", lambda *_, **__: pytest.fail("fitted first"))
    done = run("fit", tables / "train.csv", "--out", tmp_path / "full")
    assert done.exit_code == 2 and "holds something else" in done.output
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run("study", tables / "train.csv", "--out", tmp_path / "report")
    assert done.exit_code == 2 and "need matplotlib, was: not installed" in done.output
