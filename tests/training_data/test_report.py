"""The page stands alone, says what was measured, and takes no text at its word."""

import base64
import csv
import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from encoders.errors import DataError, ImageError
from training_data.analysis import HULL, ORACLE, WITHOUT_LUCK, analyse
from training_data.bootstrap import Estimate
from training_data.curves import Curve, gap_recovered
from training_data.figures import _named_ticks, against_cost, draw, new_figure, percents
from training_data.outcomes import Features, Outcomes
from training_data.report import _curve_table, report, write

LADDER = np.array([1, 4, 16])
LATE = r"$\frac$<b>_late"  # broken mathematics, a tag, and a name that legends would hide
HOSTILE = "<script>alert('$body')</script> & \"what\""


def outcomes(n=60, replicates=2, named=False):
    """Two data sets: "plain" is solved at once, the hostile one late; edge density tells the late ones."""
    rng = np.random.default_rng(0)
    rows = n * replicates
    example = np.arange(rows) // replicates
    late = example % 2
    chance = np.where(late[:, None] == 1, [0.05, 0.2, 0.9], [0.9, 0.9, 0.9])
    return Outcomes(
        id=example.astype(str),
        group=np.array([f"{'late' if row % 2 else 'soon'}-{row // 4}" for row in example]),
        dataset=np.where(late == 1, LATE, "plain"),
        question=np.where(late == 1, HOSTILE, "how many"),
        replicate=np.arange(rows) % replicates,
        arms=("small", "middle", "large") if named else tuple(map(str, LADDER)),
        m=None if named else LADDER,
        score=(rng.random((rows, 3)) < chance).astype(float),
        cost=np.tile([0.1, 0.2, 0.4], (rows, 1)),
        features=Features(
            1,
            ("calm", "edges", "constant"),
            np.column_stack([rng.random(rows) - late / 3, late + rng.random(rows) / 9, np.ones(rows)]),
        ),
        unit="dollars" if named else "tflops",
    )


def picture(name):
    """A picture per group; late ones cannot be read, one is gone."""
    if name == "soon-0":
        return None
    if name.startswith("late"):
        raise ImageError("torn")
    return Image.new("RGBA", (400, 100), "red")


class Page(HTMLParser):
    """Tags, sources and text as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href", "data", "srcset")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    path = report(outcomes(), folder, picture, resamples=60)
    return folder, path, path.read_text(encoding="utf-8")


def rows_of(folder, name):
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_page_needs_no_network_and_runs_no_script(written):
    page = Page(written[2])
    assert "script" not in page.tags and "link" not in page.tags
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "default-src 'none'" in written[2] and not re.search(r"https?://|url\(|@import", written[2])


def test_text_from_strangers_is_escaped_and_shown_as_it_is(written):
    assert "<script" not in written[2] and "<b>" not in written[2]
    words = " ".join(Page(written[2]).words)
    assert HOSTILE in words and LATE in words


def test_figures_are_in_the_page_and_beside_it(written):
    folder, _, text = written
    files = sorted(path.name for path in folder.glob("*.png"))
    assert files == [f"{name}.png" for name in ("accuracy", "complexity", "curves", "datasets", "labels")]
    for name in files:
        png = (folder / name).read_bytes()
        assert base64.b64encode(png).decode() in text
        assert Image.open(io.BytesIO(png)).width > 800


def test_the_contact_sheet_shows_small_pictures_of_both_ends(written):
    page, found = Page(written[2]), analyse(outcomes(), resamples=10)
    order = np.argsort(found.complexity, kind="stable")
    assert found.pictures[order[0]].startswith("soon") and found.pictures[order[-1]].startswith("late")
    sizes = [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).size for source in page.sources]
    assert sizes.count((160, 40)) == 8 - ("soon-0" in found.pictures[order[:8]])
    assert sizes.count((160, 40)) + page.words.count("(picture not at hand)") == 16


def test_without_pictures_the_page_says_so(tmp_path):
    text = report(outcomes(8, 1), tmp_path, resamples=10).read_text(encoding="utf-8")
    assert "pictures were not at hand" in text


def test_tables_hold_what_was_measured(written):
    folder, rows = written[0], outcomes().originals()
    datasets = rows_of(folder, "datasets")
    assert datasets[0] == ["dataset", "arm", "mean_cost", "score", "low", "high", "examples", "pictures"]
    told = {(row[0], row[1]): [float(cell) for cell in row[2:]] for row in datasets[1:]}
    late = rows.dataset == LATE
    assert told["all", "16"][:2] == pytest.approx([0.4, rows.score[:, 2].mean()], abs=1e-6)
    assert told[LATE, "4"][1] == pytest.approx(rows.score[late, 1].mean(), abs=1e-6)
    assert told["all", "16"][2] < told["all", "16"][1] < told["all", "16"][3]
    assert told["all", "16"][4:] == [60, 30]
    labels = {(row[0], row[1]): [int(cell) for cell in row[2:]] for row in rows_of(folder, "labels")[1:]}
    assert sum(labels["all", "cheapest"]) == 60 and labels["all", "cheapest"][3] == (rows.score.max(axis=1) == 0).sum()
    assert (
        labels["all", "stable"][3] == (rows.score[:, 2] < rows.score.max(axis=1)).sum() + labels["all", "cheapest"][3]
    )
    assert len(rows_of(folder, "complexity")) == 1 + analyse(outcomes(), resamples=10).pictures.size


def test_needs_differ_by_data_set_and_the_feature_that_tells_them_leads(written):
    heading, *rows = rows_of(written[0], "needs")
    needs = {row[0]: row[1:] for row in rows}
    assert heading[1] == "smallest_within_a_point" and not (written[0] / "failures.csv").exists()
    assert needs[LATE][:3] == ["16", "16", "16"] and needs["all"][0] == "16"
    assert sum(map(float, needs["all"][3:])) == pytest.approx(1)
    [heading, leader, other] = rows_of(written[0], "correlation")  # the constant column has no rank
    assert heading == ["feature", "spearman"] and leader[0] == "edges" and float(leader[1]) > 0.7
    assert other[0] == "calm" and -0.7 < float(other[1]) < 0


def test_the_curves_of_an_analysis_keep_their_order():
    found = analyse(outcomes(), resamples=10)
    fixed, oracle, identity = (found.curves[name] for name in (HULL, ORACLE, "one arm per data set"))
    assert 0 < gap_recovered(identity, fixed, oracle).recovered < 1
    assert "oracle without luck, by their linear prediction" in found.curves and found.agreement.shape == (3,)
    alone = analyse(outcomes(replicates=1), resamples=10)
    assert len(alone.curves) == len(found.curves) - 2 and alone.agreement is None


def test_an_example_that_failed_in_a_replicate_alone_is_in_the_numbers():
    rows = outcomes(8, 2)
    found = analyse(rows, 10, failures=[(str(rows.id[0]), "torn"), ("gone", "torn")])
    assert found.diagnosis.failed == 1 and len(found.failures) == 2


def test_the_page_tells_what_is_enough_what_was_not_measured_and_what_was_not_read(tmp_path):
    rows = outcomes(8, 2)
    rows = Outcomes(**{**vars(rows), "parsed": np.tile([0.0, 1, 1], (len(rows), 1))})
    lost = [("<b>q9", "torn"), ("<b>q9", "torn"), ("q8", "too long")]  # one of them in both replicates
    path = write(analyse(rows, 10, points=2.5, failures=lost), tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "<td>examples that could not be measured</td><td>2</td>" in text and "<b>q9" not in text
    assert "<td>answers that could not be read</td><td>8 at 1</td>" in text
    assert "within 2.5 points of the best" in text and "a point of the best" not in text
    assert rows_of(tmp_path, "needs")[0][1] == "smallest_within_2.5_points"
    assert rows_of(tmp_path, "failures") == [["id", "reason"], ["<b>q9", "torn"], ["q8", "too long"]]


def test_named_arms_and_other_units_are_drawn_too(tmp_path):
    text = report(outcomes(8, 1, named=True), tmp_path, resamples=10).read_text(encoding="utf-8")
    assert "mean cost, dollars" in text and "<td>middle</td>" in text


def test_a_world_that_no_arm_solves_is_still_a_page(tmp_path):
    rows = outcomes(8, 1)
    dark = Outcomes(**{**vars(rows), "score": np.zeros_like(rows.score)})
    text = report(dark, tmp_path, picture, resamples=10).read_text(encoding="utf-8")
    assert "flat" in text and "100% are solved by no arm" in text


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match="need matplotlib, was: not installed; run `pip install matplotlib`"):
        draw(analyse(outcomes(8, 1), resamples=10))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match="a folder it can write, was: 'taken'"):
        report(outcomes(8, 1), tmp_path / "taken", resamples=10)


def test_what_is_free_of_luck_is_held_against_the_rows_it_is_of():
    found = analyse(outcomes(replicates=3), resamples=10)
    rows = outcomes(replicates=3)
    fixed, oracle = found.replicated
    assert fixed.score[-1] == pytest.approx(rows.score.mean(axis=0).max())
    assert found.curves[HULL].score[-1] != pytest.approx(fixed.score[-1])
    [line] = [row for row in _curve_table(found) if row[0] == WITHOUT_LUCK[1]]
    assert line[-1] == f"{100 * gap_recovered(found.curves[WITHOUT_LUCK[1]], fixed, oracle).recovered:.1f}"


def test_long_names_of_arms_do_not_run_into_each_other():
    axes = new_figure().subplots()
    for names, turned in ((["1", "16", "144"], 0), ([f"Qwen2.5-VL-{size}B-Instruct" for size in (3, 7, 32, 72)], 30)):
        _named_ticks(axes, np.arange(len(names)), names)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {turned}


def test_shares_are_drawn_in_percent_with_their_intervals():
    value, reach = percents([Estimate(0.5, 0.4, 0.8), Estimate(0.2, 0.25, 0.3)])
    assert value.tolist() == [50, 20]
    assert reach == pytest.approx(np.array([[10, 0], [30, 10]]))  # none reaches below 0


def test_arms_and_curves_are_drawn_at_the_same_scale():
    axes, cost, score = new_figure().subplots(), np.array([1.0, 4.0]), np.array([0.25, 0.75])
    against_cost(axes, ("1", "4"), cost, score, {"hull": Curve.through(cost, score)}, "tokens")
    arms, hull = (np.array(line.get_ydata(), float) for line in axes.get_lines())
    assert arms.tolist() == [25, 75] and (hull.min(), hull.max()) == pytest.approx((25, 75))
