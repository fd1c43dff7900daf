"""The outcomes file: whole batches after any kill, one writer, and no mixing of what does not belong together."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from encoders.errors import DataError
from training_data import store
from training_data.store import Store

MANIFEST = {"arms": ["1", "4"], "m": [1, 4], "unit": "tflops", "backbone": None, "features": None, "data": "abc"}


def rows(numbers):
    examples = [
        {"number": n, "replicate": 0, "id": f"q{n}", "group": "g", "dataset": "d", "question": "?", "meta": None}
        for n in numbers
    ]
    measured = [
        {"number": n, "replicate": 0, "arm": arm, "score": 0.5, "cost": 1.0 + arm} for n in numbers for arm in (0, 1)
    ]
    return examples, measured


def test_an_unfinished_file_is_read_only_when_asked_for(tmp_path):
    path = tmp_path / "o.sqlite"
    with Store(path, MANIFEST) as file:
        file.add(*rows([0, 1]))
        assert file.done(0) == {0, 1} and file.done(1) == set()
    with pytest.raises(DataError, match="was: unfinished; run the same sweep again"):
        store.read(path)
    assert list(store.read(path, partial=True)["id"]) == ["q0", "q1"]
    with Store(path, MANIFEST) as file:
        file.add(*rows([2]))
        file.finish()
    assert list(store.read(path)["id"]) == ["q0", "q1", "q2"]


def test_a_batch_is_written_whole_or_not_at_all(tmp_path):
    with Store(tmp_path / "o.sqlite", MANIFEST) as file:
        file.add(*rows([0]))
        examples, measured = rows([1, 2])
        with pytest.raises(DataError, match="NOT NULL"):
            file.add(examples, [*measured[:-1], measured[-1] | {"score": None}])
        assert file.done(0) == {0}
        with pytest.raises(DataError, match="UNIQUE"):
            file.add(*rows([3, 0]))
        assert file.done(0) == {0}


@pytest.mark.parametrize(
    ("key", "value"), [("arms", ["1", "9"]), ("m", [1, 9]), ("data", "other"), ("backbone", ["nano", "f"])]
)
def test_what_the_file_was_begun_with_must_hold(tmp_path, key, value):
    with Store(tmp_path / "o.sqlite", MANIFEST):
        pass
    with pytest.raises(DataError, match=f"goes on only with what it was begun with; {key} was"):
        Store(tmp_path / "o.sqlite", MANIFEST | {key: value})
    with Store(tmp_path / "o.sqlite", MANIFEST):  # the refusal let go of the lock
        pass


def test_a_second_writer_is_refused(tmp_path):
    with Store(tmp_path / "o.sqlite", MANIFEST):
        with pytest.raises(DataError, match="one process at a time"):
            Store(tmp_path / "o.sqlite", MANIFEST)


def test_a_refused_file_is_let_go_of(tmp_path, monkeypatch):
    """On Windows nobody could move or delete it before the process ends."""
    with Store(tmp_path / "o.sqlite", MANIFEST):
        pass
    opened, connect = [], sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
    with pytest.raises(DataError, match="goes on only"):
        Store(tmp_path / "o.sqlite", MANIFEST | {"data": "other"})
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_a_link_to_the_file_is_the_same_file(tmp_path):
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "o.sqlite")
    with Store(tmp_path / "o.sqlite", MANIFEST):
        with pytest.raises(DataError, match="one process at a time"):
            Store(tmp_path / "link.sqlite", MANIFEST)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="a file was to be written"):
        Store(tmp_path, MANIFEST)


def test_a_finished_file_is_one_file(tmp_path):
    with Store(tmp_path / "o.sqlite", MANIFEST) as file:
        file.add(*rows([0]))
        file.finish()
    store.read(tmp_path / "o.sqlite")
    assert {path.name for path in tmp_path.iterdir()} == {"o.sqlite", "o.sqlite.lock"}
    assert (tmp_path / "o.sqlite").read_bytes()[18:20] == b"\x01\x01"  # no write-ahead log to be read beside it


def test_a_reader_at_the_end_disturbs_no_writer(tmp_path):
    """A sweep that ended while its file was being looked at once failed at its last step."""
    path = tmp_path / "o.sqlite"
    with Store(path, MANIFEST) as file:
        file.add(*rows([0]))
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM examples").fetchone() == (1,)
        file._database.execute("PRAGMA busy_timeout = 10")
        file.finish()
    reader.close()
    assert list(store.read(path)["id"]) == ["q0"]


def test_new_features_leave_one_file(tmp_path):
    path = tmp_path / "o.sqlite"
    with Store(path, MANIFEST | {"features": {"version": 1, "names": ["x"]}}) as file:
        file.add(*rows([0]))
        file.finish()
    with Store(path, {"data": "abc"}) as file:
        file.replace_features({"version": 2, "names": ["y"]}, [(0, 0, np.array([3]))])
    assert path.read_bytes()[18:20] == b"\x01\x01"


def test_somebody_elses_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "cookies.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE cookies (name TEXT)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="must be an outcomes file"):
        Store(path, MANIFEST)
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="needs a folder that exists"):
        Store(tmp_path / "nowhere" / "o.sqlite", MANIFEST)


def damaged_json(path):
    database = sqlite3.connect(path)
    database.execute("UPDATE manifest SET value = '[[[' WHERE key = 'arms'")
    database.commit()
    database.close()


def another_format(path):
    database = sqlite3.connect(path)
    database.execute("UPDATE manifest SET value = '99' WHERE key = 'format'")
    database.commit()
    database.close()


def lost_measurement(path):
    database = sqlite3.connect(path)
    database.execute("DELETE FROM measurements WHERE number = 0 AND arm = 1")
    database.commit()
    database.close()


def changed(statement):
    def change(path):
        database = sqlite3.connect(path)
        database.execute(statement)
        database.commit()
        database.close()

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            changed("UPDATE measurements SET number = 99 WHERE number = 1"),
            "damaged .2 measurements of no example",
        ),
        (
            changed("UPDATE measurements SET arm = 7 WHERE number = 1 AND arm = 1"),
            "1 measurements of no example",
        ),
        (changed("UPDATE examples SET meta = '{}' WHERE number = 0"), "must hold what a sweep wrote, was: damaged"),
        (changed("UPDATE examples SET meta = '{{{'"), "must hold what a sweep wrote, was: damaged"),
        (changed("UPDATE manifest SET value = '5' WHERE key = 'arms'"), "must name its arms, was: 5"),
        (changed("UPDATE manifest SET value = '5' WHERE key = 'backbone'"), "must hold what a sweep wrote"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "whole outcomes file|must be an outcomes file"),
        (lambda path: path.write_bytes(b"not a database at all" * 100), "o.sqlite, which is neither"),
        (lambda path: path.write_bytes(b""), "which is neither"),
        (damaged_json, "must be an outcomes file"),
        (another_format, "of format 1, was: 99"),
        (lost_measurement, "must hold 2 measurements per example"),
        (lambda path: path.unlink(), "an outcomes file must exist"),
    ],
)
def test_damage_is_refused_by_name(tmp_path, damage, message):
    path = tmp_path / "o.sqlite"
    with Store(path, MANIFEST) as file:
        file.add(*rows(range(50)))
        file.finish()
    damage(path)
    with pytest.raises(DataError, match=message):
        store.read(path)


WRITER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_store import MANIFEST, rows
from training_data.store import Store
with Store(Path(sys.argv[1]), MANIFEST) as file:
    done = file.done(0)
    print("open", flush=True)
    for start in range(0, int(sys.argv[2]), 8):
        if start not in done:
            file.add(*rows(range(start, start + 8)))
    file.finish()
"""


def test_killed_at_any_instant_it_goes_on_without_doubling_or_losing_a_row(tmp_path):
    """SIGKILL, five times, while batches are written as fast as they can be."""
    path, here, batches = tmp_path / "o.sqlite", os.path.dirname(__file__), 8 * 4_000
    kills = 0
    for wait in (0.01, 0.05, 0.1, 0.2, 0.3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(batches), here], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "open\n"
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        kills += writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        found = list(store.read(path, partial=True)["id"]) if kills else []
        assert len(found) % 8 == 0 and len(set(found)) == len(found)
    assert kills >= 3
    subprocess.run([sys.executable, "-c", WRITER, str(path), str(batches), here], check=True, capture_output=True)
    assert list(store.read(path)["id"]) == [f"q{n}" for n in range(batches)]


def test_features_of_a_newer_version_take_the_place_of_the_old_ones(tmp_path):
    path = tmp_path / "o.sqlite"
    with Store(path, MANIFEST | {"features": {"version": 1, "names": ["x"]}}) as file:
        examples, measured = rows([0, 1])
        file.add([row | {"features": np.float32([1]).tobytes()} for row in examples], measured)
        file.finish()
        with pytest.raises(DataError, match="was: none for 1"):
            file.replace_features({"version": 2, "names": ["y", "z"]}, [(0, 0, np.array([3, 4]))])
        file.replace_features(
            {"version": 2, "names": ["y", "z"], "tflops": {"y": 0.25}},
            [(0, 0, np.array([3, 4])), (1, 0, np.array([5, 6]))],
        )
    version, names, values, tflops = store.read(path)["features"]
    assert (version, names, values.tolist(), tflops) == (2, ("y", "z"), [[3, 4], [5, 6]], {"y": 0.25})
    assert json.loads(json.dumps(store.manifest(path)["finished"])) is True


def test_what_is_read_beside_a_running_sweep_is_of_one_instant(tmp_path, monkeypatch):
    """A batch between reading examples and reading measurements made the file look damaged."""
    path, real = tmp_path / "o.sqlite", store._reading
    with Store(path, MANIFEST) as file:
        file.add(*rows([0]))

        @contextmanager
        def reading(path):
            with real(path) as database:
                late = iter([[1, 2]])

                def on_statement(text):
                    if text.startswith("SELECT score") and (numbers := next(late, None)):
                        file.add(*rows(numbers))

                database.set_trace_callback(on_statement)
                yield database

        monkeypatch.setattr(store, "_reading", reading)
        assert list(store.read(path, partial=True)["id"]) == ["q0"]
        monkeypatch.undo()
        assert list(store.read(path, partial=True)["id"]) == ["q0", "q1", "q2"]
