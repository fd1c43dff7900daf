"""A saved router decides as before; a folder that is not as it was saved is refused, whoever changed it."""

import contextlib
import hashlib
import json
import pickle
import random
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_outcomes
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as arrays_as_bytes

from router import Budget, DataError, Router
from router.card import card
from router.saving import FORMAT
from training_data.outcomes import Features

GOLDEN = Path(__file__).parent.parent / "golden"
BLOBS = ("README.md", "calibration.safetensors", "question.safetensors", "readout.safetensors", "vocabulary.json")
FILES = ("config.json", *BLOBS)


def of_a_backbone():
    """Other questions than the rest, so that no file of theirs is the same."""
    table = make_outcomes(120, seed=2, backbone=("nano", "a" * 64))
    return replace(table, question=np.array([f"tell me {q}" for q in table.question], dtype=object))


def without_m():
    table = make_outcomes(120, features=False).take_arms([0, 3])
    return replace(table, arms=("small", "large"), m=None, unit="dollars")


KINDS = {
    "gain": lambda: Router.fit(of_a_backbone(), seed=3),
    "ordinal": lambda: Router.fit(make_outcomes(120), head="ordinal"),
    "no pictures": lambda: Router.fit(make_outcomes(120, features=False, unit="tokens")),
    "no m": lambda: Router.fit(without_m(), routing_cost=0.001),
    "no text": lambda: Router.fit(make_outcomes(120), groups=("pixels", "words")),
}
made = {}


def kept(kind, tmp_path_factory):
    """A fitted router and its folder; fitted once."""
    if kind not in made:
        router = KINDS[kind]()
        made[kind] = router, router.save(tmp_path_factory.mktemp("routers") / kind)
    return made[kind]


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    return kept(request.param, tmp_path_factory)


@pytest.fixture
def folder(tmp_path_factory, tmp_path):
    """A copy of a saved router's folder, to be damaged."""
    return Path(shutil.copytree(kept("ordinal", tmp_path_factory)[1], tmp_path / "router"))


@pytest.fixture
def other(tmp_path_factory):
    return kept("gain", tmp_path_factory)[1]


def asked(router, outcomes=None):
    """(questions, features as this router wants them)."""
    outcomes = make_outcomes(40, seed=5) if outcomes is None else outcomes
    questions = [*outcomes.question.tolist(), "", "🐕 A. B?"]
    names = router.columns.visual
    version = 0 if router.features is None else router.features[0]
    values = np.random.default_rng(0).normal(size=(len(questions), len(names)))
    return questions, Features(version, names, values) if names else None


def budgets(router):
    typical, unit = router.arm_cost(router.unit), router.unit
    cap = int(typical[1]) if unit == "tokens" else float(typical[1])
    yield from (None, Budget(cap=cap, unit=unit), Budget(mean=float(typical.mean()), unit=unit), Budget(price=0.0))
    yield from (Budget(price=1 / float(typical[-1])), Budget(max_loss=0.01), Budget(max_loss=0.3))
    yield from (Budget(max_broken=0.4),)
    if router.m is not None and unit != "tokens":
        yield from (Budget(4), Budget(mean=9))


def decisions(router):
    """Everything a router says to questions it is asked."""
    questions, features = asked(router)
    curve = router.curves(questions, features)
    rows = router._rows(questions, features)
    told = [curve.tobytes(), router.operating_price, router.reasons(rows[0], len(router.arms) - 1, 0)]
    for budget in budgets(router):
        for ids in (None, range(len(questions))):
            arms, price, unit, reason = router.choose(curve, budget, router.arm_cost, ids)
            told.append((str(budget), arms.tolist(), price, unit, reason))
        if budget is not None and budget.kind in ("max_loss", "max_broken"):
            told.append(router.certificate(budget))
    return told


def same(one, other):
    """Equal, NaN being NaN."""
    return repr(one) == repr(other)


# ---- what is saved comes back


def test_saving_changes_no_decision(saved):
    router, folder = saved
    loaded = Router.load(folder)
    assert same(decisions(loaded), decisions(router))
    for name in ("arms", "unit", "backbone", "features", "routing_cost", "facts"):
        assert getattr(loaded, name) == getattr(router, name)
    assert np.array_equal(loaded.m, router.m) and (loaded.m is None) == (router.m is None)
    assert loaded.columns.names == router.columns.names


def test_full_for_all_is_kept_too(tmp_path_factory, tmp_path):
    router, _ = kept("gain", tmp_path_factory)
    full = replace(router, calibration=replace(router.calibration, operating=float("nan")))
    assert full.operating_price is None
    assert same(decisions(Router.load(full.save(tmp_path / "full"))), decisions(full))


def test_an_evaluation_is_the_same_to_the_last_bit(tmp_path_factory):
    router, folder = kept("gain", tmp_path_factory)
    test = make_outcomes(60, seed=6)
    one, other = (r.evaluate(test, resamples=20) for r in (router, Router.load(folder)))
    assert str(replace(one, router_ms=0.0)) == str(replace(other, router_ms=0.0))


def test_a_loaded_router_is_saved_to_the_same_bytes(saved, tmp_path):
    router, folder = saved
    for number, again in enumerate((router, Router.load(folder))):
        copy = again.save(tmp_path / "deep" / str(number))
        assert {f.name: f.read_bytes() for f in copy.iterdir()} == {f.name: f.read_bytes() for f in folder.iterdir()}


def test_every_file_stands_in_config_json_with_its_sha256(saved):
    router, folder = saved
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    digests = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir() if f.name != "config.json"}
    assert config["files"] == digests and config["format"] == FORMAT
    assert set(digests) == {name for name in BLOBS if router.columns.scores is not None or name[0] not in "qv"}


def test_loading_and_deciding_load_no_library_that_grew_the_trees(tmp_path_factory):
    folder = kept("no pictures", tmp_path_factory)[1]
    code = (
        "import sys; from router import Router, Budget; r = Router.load(sys.argv[1]); c = r.curves(['how many?'] * 3); "
        "[r.choose(c, b, r.arm_cost) for b in (None, Budget(36), Budget(mean=40), Budget(max_loss=0.2))]; "
        "assert c.shape == (3, 4); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "sklearn", "scipy", "lightgbm", "pandas", "pickle5"}


def test_saving_over_an_earlier_router_leaves_nothing_of_it(tmp_path_factory, folder):
    router, own = kept("no text", tmp_path_factory)
    router.save(folder)
    assert same(decisions(Router.load(folder)), decisions(router))
    assert sorted(f.name for f in folder.iterdir()) == sorted(f.name for f in own.iterdir())


class Killed(BaseException):
    pass


def dies_at(moment, patch):
    """Whoever changes the disk dies at his `moment`th change; what he was writing is left torn."""
    changes = iter(range(moment))

    def dying(change):
        def step(path, *arguments, **options):
            if next(changes, None) is None:
                if arguments and isinstance(arguments[0], str | bytes):
                    change(path, arguments[0][: len(arguments[0]) // 2], **options)
                raise Killed
            return change(path, *arguments, **options)

        return step

    for name in ("mkdir", "write_bytes", "write_text", "replace", "unlink"):
        patch.setattr(Path, name, dying(getattr(Path, name)))


def left(folder):
    """What is found where somebody died; None for no router."""
    try:
        router = Router.load(folder)
    except DataError as error:
        assert "a router is a folder with a config.json" in str(error)
        return None
    return router.facts, router.curves(*asked(router)).tobytes()


@pytest.mark.parametrize("before", [None, "gain", "no text", "ordinal"])
def test_a_saving_that_dies_leaves_the_old_router_or_the_new(tmp_path_factory, tmp_path, monkeypatch, before):
    """Files were once written over the old ones: half way, neither router could be read."""
    router, folder, found = kept("ordinal", tmp_path_factory)[0], tmp_path / "router", []
    new = replace(router, facts=router.facts | {"seed": 99})  # over itself, all files but two are the same
    for moment in range(100):
        if before is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.copytree(kept(before, tmp_path_factory)[1], folder, dirs_exist_ok=True)
        old = left(folder)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            dies_at(moment, patch)
            new.save(folder)
            break
        found.append(left(folder))
        new.save(folder)
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    here = left(folder)
    steps = [old, here].index
    assert [steps(one) for one in found] == sorted(map(steps, found)) and set(map(steps, found)) == {0, 1}
    assert len(found) > 12 and here[0]["seed"] == 99 and old != here


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "file/router"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path_factory, tmp_path, name):
    router, _ = kept("gain", tmp_path_factory)
    (tmp_path / "file").write_text("keep")
    with pytest.raises(DataError, match=r"in a folder that can be written, was: .*; check the path"):
        router.save(f"{tmp_path}/{name}")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path_factory, tmp_path):
    router, _ = kept("gain", tmp_path_factory)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("keep")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"format": 1, "kind": "a model, not a router"}')
    (tmp_path / "file").write_text("keep")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("notes", "model", "file"):
        with pytest.raises(DataError, match=f"in a folder of its own, was: '{name}', which holds something else"):
            router.save(tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    (tmp_path / "empty").mkdir()
    assert Router.load(router.save(tmp_path / "empty")).arms == router.arms


def test_what_cannot_be_told_overwrites_nothing(tmp_path_factory, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = replace(kept("gain", tmp_path_factory)[0], facts={"seed": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        broken.save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_card_tells_rows_backbone_and_arms(tmp_path_factory):
    router, folder = kept("gain", tmp_path_factory)
    text = (folder / "README.md").read_text(encoding="utf-8")
    held = len(router.calibration.curve)
    assert text.startswith("# Router for nano\n") and f"fingerprint {'a' * 64}" in text
    assert "Chooses among 1, 4, 16, 64 (tflops)" in text
    assert f"fitted on {240 - held} questions, prices fixed on {held} others; 120 pictures in all" in text
    assert "head gain, seed 3" in text and "pixels 2, patches 1, words 12, text 8" in text
    full = router.calibration.full
    assert f"full, the best constant arm: {router.arms[full]}" in text
    assert f"\n| 16 | {router.facts['score']['16']:.3f} | 0.036 |\n" in text
    assert kept("no m", tmp_path_factory)[1].joinpath("README.md").read_text().startswith("# Router for a table\n")


# ---- damage


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


DAMAGES = {
    "truncated": lambda content, other, marker: content[: len(content) // 2],
    "emptied": lambda content, other, marker: b"",
    "one byte changed": lambda content, other, marker: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "one byte more": lambda content, other, marker: content + b" ",
    "another's": lambda content, other, marker: other,
    "a pickle": lambda content, other, marker: pickle.dumps(Trap(marker)),
}


def test_what_is_no_path_is_refused():
    with pytest.raises(DataError, match="read from its folder, was: NoneType; give a path"):
        Router.load(None)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", BLOBS)
def test_a_changed_file_is_refused_by_name(folder, other, tmp_path, name, damage):
    content = DAMAGES[damage]((folder / name).read_bytes(), (other / name).read_bytes(), tmp_path / "ran")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} must have the sha256 that config.json names"):
        Router.load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "another's", "a pickle"])
def test_a_changed_config_is_refused(folder, other, tmp_path, damage):
    path = folder / "config.json"
    path.write_bytes(DAMAGES[damage](path.read_bytes(), (other / "config.json").read_bytes(), tmp_path / "ran"))
    with pytest.raises(DataError, match=r"config\.json"):
        Router.load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        Router.load(folder)
    (folder / name).mkdir()
    with pytest.raises(DataError, match=name):
        Router.load(folder)


def test_a_folder_that_is_none_is_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataError, match=r"a router is a folder with a config\.json, was: .*; `matryoshka-router"):
            Router.load(path)


def test_a_pickle_would_run_if_it_were_loaded(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", BLOBS)
def test_a_pickle_with_the_right_sha256_does_not_run(folder, tmp_path, name):
    forge(folder, name, pickle.dumps(Trap(tmp_path / "ran")))
    if name == "README.md":  # for people; nothing reads it
        Router.load(folder)
    else:
        with pytest.raises(DataError, match=rf"{name} must be (whole|JSON), was: .*; save the router again"):
            Router.load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_file_too_large_is_not_read(folder, monkeypatch):
    monkeypatch.setattr("router.saving._LARGEST", 1000)
    with pytest.raises(DataError, match="at most 1,000 bytes, was: "):
        Router.load(folder)


# ---- somebody who recomputes the sha256


def forge(folder, name, content):
    """Replace a file and its sha256."""
    (folder / name).write_bytes(content)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def forge_arrays(folder, name, change):
    """Replace arrays of a file; None removes one."""
    arrays = dict(parse_arrays((folder / name).read_bytes()))
    arrays |= change(arrays)
    whole = {key: np.ascontiguousarray(np.atleast_1d(array)) for key, array in arrays.items() if array is not None}
    forge(folder, name, arrays_as_bytes(whole))


def put(array, place, value):
    changed = array.copy()
    changed[place] = value
    return changed


FOREST = {
    "children out of range": lambda a: {"forest.other": a["forest.other"] + 10**6},
    "children far out of range": lambda a: {"forest.other": put(a["forest.other"], 0, 2**31 - 1)},
    "a negative child": lambda a: {"forest.other": put(a["forest.other"], 0, -1)},
    "negative children": lambda a: {"forest.other": -a["forest.other"]},
    "a way back up": lambda a: {"forest.other": put(a["forest.other"], 1, 0)},
    "one child": lambda a: {"forest.other": put(a["forest.other"], 0, 0)},
    "a leaf that leads on": lambda a: {"forest.threshold": np.nan_to_num(a["forest.threshold"])},
    "real children": lambda a: {"forest.other": a["forest.other"].astype(np.float64)},
    "a root out of range": lambda a: {"forest.root": put(a["forest.root"], 0, 10**6)},
    "a negative root": lambda a: {"forest.root": put(a["forest.root"], 0, -1)},
    "a table of roots": lambda a: {"forest.root": a["forest.root"][:, None]},
    "columns beyond the last": lambda a: {"forest.feature": a["forest.feature"] + 10**6},
    "a negative column": lambda a: {"forest.feature": put(a["forest.feature"], 0, -1)},
    "a threshold that is NaN": lambda a: {"forest.threshold": put(a["forest.threshold"], 0, np.nan)},
    "a leaf that is NaN": lambda a: {"forest.value": put(a["forest.value"], 0, np.nan)},
    "a leaf without end": lambda a: {"forest.value": put(a["forest.value"], 0, np.inf)},
    "fewer leaves": lambda a: {"forest.value": a["forest.value"][1:]},
    "flat leaves": lambda a: {"forest.value": a["forest.value"].ravel()},
    "leaves of fewer arms": lambda a: {"forest.value": a["forest.value"][:, :3]},
    "fewer thresholds": lambda a: {"forest.threshold": a["forest.threshold"][:-1]},
    "no nodes": lambda a: {key: array[:0] for key, array in a.items() if key[:7] == "forest." and len(array) > 1000},
    "a million columns": lambda a: {"forest.columns": np.array([10**6])},
    "no columns": lambda a: {"forest.columns": np.array([0])},
    "columns without end": lambda a: {"forest.columns": np.array([np.inf])},
    "columns beyond counting": lambda a: {"forest.columns": np.array([2**64 - 1], np.uint64)},
    "two numbers of columns": lambda a: {"forest.columns": np.array([23, 23])},
    "no number of columns": lambda a: {"forest.columns": np.zeros(0, np.int64)},
}
READOUT = {
    "a constant of other length": lambda a: {"constant": a["constant"][1:]},
    "a constant that is NaN": lambda a: {"constant": a["constant"] * np.nan},
    "a complex constant": lambda a: {"constant": a["constant"].astype(np.complex64)},
    "a constant of truths": lambda a: {"constant": a["constant"] > 0},
    "slopes without end": lambda a: {"slopes": a["slopes"] + np.inf},
    "slopes of other length": lambda a: {"slopes": np.ones(4)},
    "a table of means": lambda a: {"mean": a["mean"][None]},
    "knots that fall": lambda a: {"knots.1.x": a["knots.1.x"][::-1]},
    "knots that are NaN": lambda a: {"knots.1.x": a["knots.1.x"] * np.nan},
    "knots of scores that are NaN": lambda a: {"knots.1.y": a["knots.1.y"] * np.nan},
    "knots of unequal length": lambda a: {"knots.1.y": a["knots.1.y"][1:]},
    "no knots for an arm": lambda a: {"knots.1.y": a["knots.1.y"][:0], "knots.1.x": a["knots.1.x"][:0]},
    "knots for fewer arms": lambda a: {"knots.3.x": None, "knots.3.y": None},
    "knots for more arms": lambda a: {"knots.4.x": np.ones(2), "knots.4.y": np.ones(2)},
    "knots without the first": lambda a: {"knots.0.x": None},
    "readings without a share": lambda a: {"readings": np.arange(4)},
    "a share without readings": lambda a: {"share": np.ones(1)},
    "readings of other columns": lambda a: {"readings": np.arange(1000, 1004), "share": np.ones(1)},
    "something besides": lambda a: {"weights": np.ones(2)},
    "nothing": lambda a: dict.fromkeys(a),
}
CALIBRATION = {
    "a curve that is NaN": lambda a: {"curve": put(a["curve"], (0, 0), np.nan)},
    "a score of 2": lambda a: {"score": a["score"] * 2},
    "a negative cost": lambda a: {"cost": -a["cost"]},
    "costs of other rows": lambda a: {"cost": a["cost"][1:]},
    "a typical cost of 0": lambda a: {"typical": a["typical"] * 0},
    "full out of range": lambda a: {"full": np.array([4])},
    "full without end": lambda a: {"full": np.array([np.inf])},
    "data sets out of range": lambda a: {"dataset": a["dataset"] + 1000},
    "negative data sets": lambda a: {"dataset": a["dataset"] - 1000},
    "a table of data sets": lambda a: {"dataset": a["dataset"][:, None]},
    "fewer pictures": lambda a: {"group": a["group"][1:]},
    "no rows": lambda a: {key: a[key][:0] for key in ("curve", "score", "cost", "group", "dataset")},
    "three arms": lambda a: {
        key: array[..., :3] for key, array in a.items() if array.shape[-1:] == (4,) and key not in ("full", "prices")
    },
}
QUESTION = {
    "idf that is NaN": lambda a: {"idf": a["idf"] * np.nan},
    "weights without end": lambda a: {"weights": a["weights"] + np.inf},
    "weights of fewer words": lambda a: {"weights": a["weights"][1:]},
    "means in one row": lambda a: {"means": a["means"].ravel()},
    "means in a cube": lambda a: {"means": a["means"][None]},
    "three arms": lambda a: {key: a[key][..., :3] for key in ("weights", "intercept", "means")},
    "a balance of two": lambda a: {"balance": np.ones(2)},
    "a balance without end": lambda a: {"balance": a["balance"] * np.inf},
    "complex logits": lambda a: {"logits": a["logits"].astype(np.complex64)},
}
ATTACKS = {
    **{f"forest: {title}": ("readout.safetensors", change) for title, change in FOREST.items()},
    **{f"readout: {title}": ("readout.safetensors", change) for title, change in READOUT.items()},
    **{f"calibration: {title}": ("calibration.safetensors", change) for title, change in CALIBRATION.items()},
    **{f"question: {title}": ("question.safetensors", change) for title, change in QUESTION.items()},
}


@pytest.mark.parametrize("title", ATTACKS)
def test_arrays_that_break_a_rule_are_refused_under_the_right_sha256(folder, title):
    name, change = ATTACKS[title]
    forge_arrays(folder, name, change)
    with pytest.raises(DataError, match=r"must|needs?|read|looks|scores|costs|finite|numbers"):
        Router.load(folder)


def test_forging_alone_refuses_nothing(folder):
    before = decisions(Router.load(folder))
    for name in BLOBS[1:4]:
        forge_arrays(folder, name, lambda arrays: {})
    assert same(decisions(Router.load(folder)), before)


@pytest.mark.parametrize("name", BLOBS[1:4])
def test_every_array_is_needed(folder, name):
    content = (folder / name).read_bytes()
    for part in parse_arrays(content):
        (folder / name).write_bytes(content)
        forge_arrays(folder, name, lambda arrays, part=part: {part: None})
        with pytest.raises(DataError, match=r"missing|must hold what a router reads|one map per arm"):
            Router.load(folder)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"null", b"7", b"[]", b"\xff\xfe", b'"text"', b"[" * 10**5, b'[["<s>", 0]]', b'{"<s>": 0}'),
        *(
            b'{"<s>": "0"}',
            b'{"<s>": null}',
            b'{"<s>": [0]}',
            b'{"<s>": NaN}',
            b'{"<s>": 1e999}',
            b'{"<s>": 1' + b"0" * 5000 + b"}",
        ),
    ],
    ids=lambda content: ascii(content[:16]),
)
def test_a_vocabulary_of_something_else_is_refused(folder, content):
    forge(folder, "vocabulary.json", content)
    with pytest.raises(DataError, match=r"vocabulary|question scores|router folder must be as it was saved"):
        Router.load(folder)


CONFIGS = {
    "not JSON": (lambda c: "{'format': 1}", "config.json must be JSON, was: "),
    "brackets without end": (lambda c: "[" * 200_000, "config.json must be JSON, was: "),
    "not text": (lambda c: b"\xff\xfe\x00", "config.json must be JSON, was: "),
    "a list": (lambda c: [c], "of format 1, 2 or 3 is read, was: format 'list'; fit it again"),
    "null": (lambda c: None, "was: format 'NoneType'"),
    "another format": (lambda c: c | {"format": 4}, "of format 1, 2 or 3 is read, was: format 4; fit it again"),
    "no format": (lambda c: {k: v for k, v in c.items() if k != "format"}, "was: format None"),
    "format as text": (lambda c: c | {"format": "1"}, "was: format '1'"),
    "a file above": (lambda c: with_file(c, "../router/README.md"), "sha256 by file, of readout.safetensors"),
    "a file elsewhere": (lambda c: with_file(c, "/etc/hostname"), "sha256 by file, of readout.safetensors"),
    "the folder above": (lambda c: with_file(c, ".."), "sha256 by file"),
    "a name too long": (lambda c: with_file(c, "x" * 5000), "sha256 by file"),
    "a name with NUL": (lambda c: with_file(c, "README.md\0"), "sha256 by file"),
    "itself": (lambda c: with_file(c, "config.json"), "sha256 by file"),
    "a digest that leads elsewhere": (
        lambda c: c | {"files": c["files"] | {"README.md": "/../config.json"}},
        "sha256 by file",
    ),
    "a digest that is a number": (lambda c: c | {"files": c["files"] | {"README.md": 7}}, "sha256 by file"),
    "no files": (lambda c: c | {"files": {}}, "must name vocabulary.json, was: without it"),
    "two arms alike": (lambda c: c | {"arms": ["1", "1", "16", "64"]}, "arms as two or more different names"),
    "arms as text": (lambda c: c | {"arms": "abcd"}, "arms as two or more different names, was: 'abcd'"),
    "three arms": (lambda c: c | {"arms": c["arms"][:3]}, "must speak of 3 arms, was: 4"),
    "m for three arms": (lambda c: c | {"m": [1, 4, 16]}, r"must speak of its 4 arms, was: \(4, 4, 3\)"),
    "m that falls": (lambda c: c | {"m": [64, 16, 4, 1]}, "m as rising whole numbers of at least 1, or null"),
    "m beyond counting": (lambda c: c | {"m": [1, 4, 16, 10**30]}, "m as rising whole numbers"),
    "m between": (lambda c: c | {"m": [1, 4.5, 16, 64]}, "m as rising whole numbers"),
    "one feature more": (
        lambda c: c | {"columns": c["columns"] | {"visual": [*c["columns"]["visual"], "pixels_x"]}},
        r"forest must read its \d+ columns, was: \d+",
    ),
    "no words": (
        lambda c: c | {"columns": c["columns"] | {"words": False}},
        r"forest must read its \d+ columns, was: \d+",
    ),
    "words as text": (lambda c: c | {"columns": c["columns"] | {"words": "no"}}, "columns as names of visual features"),
    "ends that are not told": (
        lambda c: c | {"columns": {name: v for name, v in c["columns"].items() if name != "both_ends"}},
        "columns as names of visual features",
    ),
    "a cost that is NaN": (
        lambda c: c | {"routing_cost": float("nan")},
        "routing_cost as a finite number, at least 0, was: nan",
    ),
    "a cost beyond floats": (lambda c: c | {"routing_cost": 10**400}, "routing_cost as a finite number"),
    "a version without end": (lambda c: c | {"features": [float("inf"), []]}, "features as a version and names"),
    "a backbone as text": (
        lambda c: c | {"backbone": "ab"},
        "backbone as a name and a fingerprint, or null, was: 'ab'",
    ),
    "no unit": (lambda c: {k: v for k, v in c.items() if k != "unit"}, "unit as a name, was: nothing"),
    "facts in a list": (lambda c: c | {"facts": [["seed", 1]]}, "facts as an object"),
    "data sets of no name": (lambda c: c | {"datasets": []}, "one of 0 data sets"),
}


def with_file(config, name):
    return config | {"files": config["files"] | {name: hashlib.sha256(b"").hexdigest()}}


@pytest.mark.parametrize("title", CONFIGS)
def test_a_config_that_breaks_a_rule_is_refused(folder, title):
    change, message = CONFIGS[title]
    path = folder / "config.json"
    changed = change(json.loads(path.read_text(encoding="utf-8")))
    if isinstance(changed, bytes):
        path.write_bytes(changed)
    else:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError, match=message):
        Router.load(folder)


def test_a_root_without_a_node_is_refused(folder):
    def change(arrays):
        nodes = {key: array[:0] for key, array in arrays.items() if key[:7] == "forest." and array.size > 1}
        return nodes | {"forest.root": np.zeros(1, np.int32)}

    forge_arrays(folder, "readout.safetensors", change)
    with pytest.raises(DataError, match="roots must be among its 0 nodes"):
        Router.load(folder)


# ---- chance


def works(router, folder):
    """A router that was loaded is one: it says everything it is asked, and is saved again."""
    decisions(router if router.unit.isprintable() and router.unit else replace(router, unit="x"))  # or no Budget has it
    assert card(router)
    assert router.arms == Router.load(router.save(folder)).arms
    shutil.rmtree(folder)


def places(value, path=()):
    """Every place of a nested value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def mutated(config, rng):
    """One to three changes of a config.json, anywhere in it but in the sha256s."""
    config = json.loads(json.dumps(config))
    for _ in range(rng.randint(1, 3)):
        path = rng.choice([p for p in places(config) if p and p[0] not in ("format", "files")])
        inner = config
        for key in path[:-1]:
            inner = inner[key]
        value = inner[path[-1]]
        strange = [None, True, 0, 1, -1, 4, 0.5, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "a\0|\n"]
        strange += [[], {}, [value], {"x": value}, [value, value], [[]] * 9, "y" * 9000, str(value), rng.random()]
        if isinstance(value, list):
            strange += [value[::-1], value[1:], value * 2, sorted(value, key=str)]
        if rng.random() < 0.15:
            del inner[path[-1]]
        else:
            inner[path[-1]] = rng.choice(strange)
        if not any(p and p[0] not in ("format", "files") for p in places(config)):
            break
    return config


@pytest.mark.parametrize("kind", ["gain", "no m"])
def test_a_config_changed_anywhere_is_refused_or_is_a_routers(tmp_path_factory, tmp_path, kind):
    folder = Path(shutil.copytree(kept(kind, tmp_path_factory)[1], tmp_path / "router"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rng, refused, read = random.Random(0), 0, 0
    for _ in range(150):
        (folder / "config.json").write_text(json.dumps(mutated(config, rng)))
        try:
            router = Router.load(folder)
        except DataError:
            refused += 1
        else:
            works(router, tmp_path / "again")
            read += 1
    assert refused > 30 and read > 10


@pytest.mark.parametrize("name", BLOBS[1:])
def test_bytes_changed_anywhere_are_refused_or_are_a_routers(folder, name):
    """Under the right sha256, numbers may change; what is asked of them then ends, with curves or a DataError."""
    content, rng = (folder / name).read_bytes(), random.Random(1)
    for round_ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(600 if round_ % 2 else len(damaged))] = rng.randrange(256)
        forge(folder, name, bytes(damaged))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                router = Router.load(folder)
                router.choose(router.curves(*asked(router)), None, router.arm_cost)
            except DataError:
                continue


# ---- what was saved long ago


@pytest.mark.parametrize("name", ["router-table", "router-table-2", "router-table-3"])
def test_a_golden_router_decides_as_it_did(name):
    """These folders and what they decided are never to be regenerated: routers out there must be read for ever.

    A new format gets one more folder beside them. Each was made once, with the fixtures of its day. Format 1:

        rows = make_outcomes(300, seed=7, features=False, unit="tokens").select(np.arange(0, 600, 2))
        router = Router.fit(replace(rows, cost=np.tile(np.array(M, float), (300, 1))))

    with budgets None, Budget(4), Budget(mean=9), Budget(price=0.01) and Budget(max_loss=0.2). Format 2, where the
    text's readings have a share and n-grams a balance:

        router = Router.fit(make_worded(600, seed=7))

    with budgets None, Budget(144), Budget(mean=90), Budget(price=0.0005) and Budget(max_loss=0.2). Format 3, where both
    ends of a long text are read:

        rows = make_worded(700, seed=8)
        long = np.array(["tell me. " * 60 + q if k % 3 else q for k, q in enumerate(rows.question)], dtype=object)
        router = Router.fit(replace(rows, question=long))

    with budgets None, Budget(144), Budget(mean=90), Budget(price=0.001) and Budget(max_loss=0.2). Then

        router.save(folder)
        questions = [*rows.question[:14], "", "how many?", "is it red or blue?", "🐕 A. B?", "pick\\nA. one", "x" * 999]
        curve = router.curves(questions)
        arms = {str(b): router.choose(curve, b, router.arm_cost)[0].tolist() for b in budgets}
        (folder / "decisions.json").write_text(json.dumps({"questions": ..., "curves": ..., "arms": ...}, indent=1))
    """
    folder = GOLDEN / name
    told = json.loads((folder / "decisions.json").read_text(encoding="utf-8"))
    router = Router.load(folder)
    curve = router.curves(told["questions"])
    np.testing.assert_allclose(curve, told["curves"], rtol=0, atol=1e-9)
    assert len(told["arms"]) == 5
    for written, arms in told["arms"].items():
        assert router.choose(curve, Budget.parse(written.lower()), router.arm_cost)[0].tolist() == arms, written
    assert sum(path.stat().st_size for path in folder.iterdir()) < 400_000


@pytest.mark.parametrize("name", ["router-table", "router-table-2", "router-table-3"])
def test_a_golden_router_is_saved_anew_and_decides_alike(name, tmp_path):
    router = Router.load(GOLDEN / name)
    questions = json.loads((GOLDEN / name / "decisions.json").read_text(encoding="utf-8"))["questions"]
    again = Router.load(router.save(tmp_path / "anew"))
    assert np.array_equal(again.curves(questions), router.curves(questions))


def test_the_golden_router_of_format_2_reads_what_that_format_added():
    router = Router.load(GOLDEN / "router-table-2")
    assert 0 < router.readout.share[0] < 1 and router.columns.scores.balance.tolist() == [1.0, 0.5, 0.3]
    assert not router.columns.both_ends


def test_the_golden_router_of_format_3_reads_the_end_of_a_long_text():
    router = Router.load(GOLDEN / "router-table-3")
    one, other, early = ("tell me. " * 60 + "is the w1 there", "tell me. " * 60 + "is the w2 there", "tell me. " * 60)
    assert router.columns.both_ends and not np.array_equal(*router.curves([one, other]))
    assert not np.array_equal(*router.curves([one, early]))
