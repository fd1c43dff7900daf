"""Rows are read whatever their file's name says, and refused by file, line, field and value."""

import csv
import gzip
import io
import json
import random
import re
import subprocess
import sys
import zipfile

import pytest

from encoders.errors import DataError
from training_data import rows
from training_data.example import Example
from training_data.rows import Row, Tally, is_document, read_document, read_entries, read_rows

ROWS = [{"id": 1, "text": "one"}, {"id": "2", "text": "zwei é"}]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"


def fields(path, key=None):
    return [dict(row.fields) for row in read_rows(path, key=key)]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.json.gz", "rows.jsonl.gz"])
@pytest.mark.parametrize(
    "text", [LINES, json.dumps(ROWS), json.dumps(ROWS, indent=2)], ids=["lines", "array", "indented"]
)
def test_json_and_json_lines_are_told_apart_by_looking(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert fields(path) == ROWS


def test_a_gzip_without_its_suffix_and_a_byte_order_mark_are_fine(tmp_path):
    (tmp_path / "zip.json").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + LINES.encode())
    assert fields(tmp_path / "zip.json") == fields(tmp_path / "bom.json") == ROWS


@pytest.mark.parametrize("text", ['{"data": [{"id": 1, "id": 2}]}', '{"results": {"1": 0, "1": 1}}'])
def test_a_key_that_is_given_twice_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json, from line 1 on: a JSON object gives each key once, was twice: '"):
        read_document(tmp_path / "a.json")


def test_rows_may_stand_under_a_key_or_be_the_values_of_an_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": ROWS, "version": 1}))
    assert fields(path, "data") == ROWS
    path.write_text(json.dumps({"4": ROWS[0], "7": ROWS[1]}, indent=1))
    entries = list(read_entries(path, Tally()))
    assert [entry.key for entry in entries] == ["4", "7"]
    assert entries[1].text("text") == "zwei é"


def test_a_line_separator_inside_a_text_does_not_part_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b"}\n{"text": "c"}\n', encoding="utf-8")
    assert [row.text("text") for row in read_rows(path)] == ["a\u2028b", "c"]


def test_tables_keep_quoted_tabs_long_cells_and_empty_ones(tmp_path):
    long = "x" * 300_000  # the csv module's own limit is 131,072
    (tmp_path / "a.tsv").write_text(f'index\ttext\thint\n5\t"a\tb"\t\n6\t{long}\tyes\n')
    first, second = read_rows(tmp_path / "a.tsv")
    assert first.text("text") == "a\tb" and not first.has("hint") and first.integer("index") == 5
    assert second.text("text") == long and second.place == "line 3"
    (tmp_path / "a.csv").write_text('id,text\r\n1,"two\r\nlines"\r\n')
    assert fields(tmp_path / "a.csv") == [{"id": "1", "text": "two\r\nlines"}]


BROKEN = {
    "torn line": (b'{"id": 1}\n{"id": 2, "te', r"bad\.jsonl, line 2: must be valid JSON .*was: .*id.*2"),
    "torn array": (b'[{"id": 1},\n {"id"', r"bad\.jsonl, line 2: must be valid JSON"),
    "encoding": ('{"id": "é"}'.encode("latin-1"), r"must be UTF-8, was: bad\.jsonl with b'\\xe9' at byte 8"),
    "empty": (b" \n", r"must not be empty, was: bad\.jsonl"),
    "no object": (b'{"id": 1}\n[1, 2]\n', r"bad\.jsonl, line 2: a row must be a JSON object, was: \[1, 2\]"),
    "a number": (b"3", r"line 1: a row must be a JSON object, was: 3"),
    "huge number": (b'{"id": ' + b"9" * 5000 + b"}", r"line 1: numbers must be finite"),
    "deep": (b'{"id": ' + b"[" * 200_000, r"line 1: JSON may not be nested this deeply"),
    "torn gzip": (gzip.compress(LINES.encode())[:-12], r"a gzip file must be whole, was: bad\.jsonl"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_damage_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(tmp_path / "bad.jsonl"))


def test_nan_counts_as_absent_and_an_infinity_is_refused_by_its_field(tmp_path):
    (tmp_path / "a.json").write_text('[{"n": NaN, "text": NaN, "all": ["x", NaN]}, {"n": -Infinity}]')
    first, second = read_rows(tmp_path / "a.json")
    assert not first.has("n") and first.optional("text") is None
    with pytest.raises(DataError, match=r"a\.json, row 1: .*'all' must be a text or a list of texts"):
        first.texts("all")
    with pytest.raises(DataError, match=r"a\.json, row 2: the field 'n' must be a finite number, was: -inf"):
        second.number("n")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be readable, was: none\.json \(No such file"):
        list(read_rows(tmp_path / "none.json"))
    with pytest.raises(DataError, match="must be readable"):
        list(read_rows(tmp_path))


TABLES = {
    "short line": ("a,b\n1\n", r"bad\.csv, line 2: a line must have 2 cells like its header, was: '1 cells'"),
    "open quote": ('a,b\n1,"x\n', r"bad\.csv, line 2: a table must be whole"),
    "a later column without a name": ("a,\n1,2\n", r"columns must have names, each its own, was: \['a', ''\]"),
    "two columns without a name": (",,a\n0,1,2\n", r"columns must have names, each its own, was: \['', '', 'a'\]"),
    "two columns of one name": ("a,a\n1,2\n", r"columns must have names, each its own, was: \['a', 'a'\]"),
}


def test_the_index_that_pandas_writes_is_no_column(tmp_path):
    (tmp_path / "a.csv").write_text(",a,b\n0,1,2\n1,3,4\n")
    assert [row.fields for row in read_rows(tmp_path / "a.csv")] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(("text", "message"), TABLES.values(), ids=TABLES.keys())
def test_damaged_tables_are_refused_by_line(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_rows(tmp_path / "bad.csv"))


# Excel sheets -------------------------------------------------------------------------------------------------------

SHEET = [
    ["index", "question", "A", "answer", "prediction"],
    [241, "Which?", 4, "A", "A. 4"],
    [1000241, "What\nelse?", 0.5, "B", ""],
    [7, "=ends early", True, "A", None],
]


def workbook(path, lines=SHEET):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append([f"'{cell}" if str(cell).startswith("=") else cell for cell in line])
    book.save(path)
    return path


def changed(path, part, change):
    """The workbook with one of its parts changed, or left out, and zipped whole again."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    parts[part] = change(parts[part])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as book:
        for name, content in parts.items():
            if content is not None:
                book.writestr(name, content)
    path.write_bytes(packed.getvalue())


def test_a_sheet_is_read_as_the_same_table_in_tsv(tmp_path):
    cells = [["" if cell is None else str(cell).replace("=", "'=") for cell in line] for line in SHEET]
    text = "".join("\t".join(f'"{cell}"' for cell in line) + "\n" for line in cells)
    (tmp_path / "a.tsv").write_text(text)
    assert fields(workbook(tmp_path / "a.xlsx")) == fields(tmp_path / "a.tsv")
    first, second, third = read_rows(workbook(tmp_path / "a.XLSX"))
    assert first.name("index") == "241" and first.text("A") == "4" and third.text("A") == "True"
    assert "prediction" in second.fields and not second.has("prediction") and not third.has("prediction")


def test_empty_lines_and_columns_without_a_name_are_left_out_and_lines_keep_their_numbers(tmp_path):
    lines = [["a", None, "b"], [1, 2, 3], [], [None, ""], [4, None, None, 5]]
    rows = list(read_rows(workbook(tmp_path / "a.xlsx", lines)))
    assert [(row.place, row.fields) for row in rows] == [
        ("line 2", {"a": "1", "b": "3"}),
        ("line 5", {"a": "4", "b": None}),
    ]


def test_no_line_is_lost_where_a_sheet_gives_its_size_too_small(tmp_path):
    path = workbook(tmp_path / "a.xlsx")
    whole = fields(path)
    changed(path, SHEET_PART, lambda xml: re.sub(rb'<dimension ref="[^"]*"', b'<dimension ref="A1"', xml))
    assert b'"A1"' in zipfile.ZipFile(path).read(SHEET_PART) and fields(path) == whole


def test_an_empty_text_in_a_sheet_is_an_empty_cell(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["id", "text"], [1, "TEXT"], [2, "TEXT"]])
    changed(
        path,
        SHEET_PART,
        lambda xml: xml.replace(b't="inlineStr"><is><t>TEXT</t></is>', b't="inlineStr"><is><t></t></is>', 1),
    )
    assert fields(path) == [{"id": "1", "text": None}, {"id": "2", "text": "TEXT"}]


SHEET_PART = "xl/worksheets/sheet1.xml"
DAMAGED_PARTS = {
    "cut sheet": (SHEET_PART, lambda xml: xml[:-100]),
    "texts lost": (SHEET_PART, lambda xml: xml.replace(b't="inlineStr"><is><t>index</t></is>', b't="s"><v>7</v>')),
    "no sheet": (SHEET_PART, lambda xml: None),
    "no sheets": ("xl/workbook.xml", lambda xml: re.sub(rb"<sheets>.*</sheets>", b"<sheets/>", xml)),
    "unknown attribute": ("xl/styles.xml", lambda xml: xml.replace(b"borderId", b"bozderId")),
    "line number": (SHEET_PART, lambda xml: xml.replace(b'<row r="4"', b'<row r="1048577"')),
}


@pytest.mark.parametrize(("part", "change"), DAMAGED_PARTS.values(), ids=DAMAGED_PARTS.keys())
def test_damage_inside_a_workbook_is_refused_by_name(tmp_path, part, change):
    path = workbook(tmp_path / "bad.xlsx")
    changed(path, part, change)
    with pytest.raises(DataError, match=r"an Excel file must be whole, .*was: bad\.xlsx \(.+\); write it again"):
        fields(path)


NO_WORKBOOKS = {
    "text": b"index\tprediction\n1\tA\n",
    "empty": b"",
    "old .xls, or under a password": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "zip of something else": None,
}


@pytest.mark.parametrize("content", NO_WORKBOOKS.values(), ids=NO_WORKBOOKS.keys())
def test_what_is_no_workbook_is_refused_by_name(tmp_path, content):
    pytest.importorskip("openpyxl")
    if content is None:
        zipfile.ZipFile(tmp_path / "bad.xlsx", "w").writestr("a.txt", "a")
    else:
        (tmp_path / "bad.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"an Excel file must be whole, .*was: bad\.xlsx"):
        fields(tmp_path / "bad.xlsx")


def test_a_torn_workbook_is_refused_or_read_as_if_it_were_whole(tmp_path):
    """Cuts and flipped bits: every sheet's content has a checksum, so no damage passes for another table."""
    path = workbook(tmp_path / "a.xlsx", [SHEET[0], *([k, f"{k * k}?", k, "A", "B"] for k in range(60))])
    whole, content = fields(path), path.read_bytes()
    damage = random.Random(0)
    torn = [content[: len(content) * k // 20] for k in range(20)]
    for place in damage.sample(range(len(content)), 80):
        flipped = content[place] ^ (1 << damage.randrange(8))
        torn.append(content[:place] + bytes([flipped]) + content[place + 1 :])
    refused = 0
    for bad in torn:
        path.write_bytes(bad)
        try:
            assert fields(path) == whole
        except DataError as error:
            refused += 1
            assert "an Excel file must be whole" in str(error) and "was: a.xlsx (" in str(error)
    assert refused >= 60


def test_a_workbook_that_unpacks_to_more_than_fits_is_refused(tmp_path, monkeypatch):
    path = workbook(tmp_path / "a.xlsx")
    monkeypatch.setattr("training_data.rows.MAX_BYTES", 5000)
    with pytest.raises(DataError, match=r"at most 5,000 bytes .*was: a\.xlsx \(ValueError: [\d,]+ bytes unpacked"):
        fields(path)


def test_sheets_that_are_missing_or_have_no_header_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be readable, was: none\.xlsx \(No such file"):
        fields(tmp_path / "none.xlsx")
    for lines, names in [([["a", "a"]], r"\['a', 'a'\]"), ([[1, "1"]], r"\['1', '1'\]"), ([], r"\[\]")]:
        with pytest.raises(DataError, match=f"line 1: columns must have names, each its own, was: {names}"):
            fields(workbook(tmp_path / "a.xlsx", lines))


def test_a_sheet_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.xlsx needs openpyxl, was: not installed; run `pip install openpyxl`"):
        fields(tmp_path / "a.xlsx")


def test_openpyxl_is_loaded_only_for_a_sheet(tmp_path):
    code = "import sys, training_data.headline, training_data.logs.vlmevalkit; print('openpyxl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_sheet_is_no_document(tmp_path):
    assert not is_document(tmp_path / "a.xlsx")


ROW = Row("f.json", "line 3", {"n": 2.5, "s": 7, "t": "x", "list": ["a", True], "none": None, "blank": " ", "b": True})


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda row: row.text("gone"), r"f\.json, line 3: a row must have the field 'gone', was: \"only 'n', 's'"),
        (lambda row: row.text("none"), "must have the field 'none', was: \"'none' empty\""),
        (lambda row: row.text("s"), "'s' must be text and not blank, was: 7"),
        (lambda row: row.text("blank"), "'blank' must be text and not blank, was: ' '"),
        (lambda row: row.integer("n"), r"'n' must be a whole number, was: 2\.5"),
        (lambda row: row.integer("b"), "'b' must be a whole number, was: True"),
        (lambda row: row.integer("t"), "'t' must be a whole number, was: 'x'"),
        (lambda row: row.name("b"), "'b' must be text"),
        (lambda row: row.texts("list"), r"'list' must be a text or a list of texts, was: \['a', True\]"),
        (lambda row: row.texts("b"), "'b' must be a text or a list of texts, was: True"),
        (lambda row: row.rows("list"), "'list' must be a list of objects"),
        (lambda row: Row("f", "line 1", {"t": "\ud800"}).text("t"), "valid Unicode"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_with_its_value(take, message):
    with pytest.raises(DataError, match=message):
        take(ROW)


def test_fields_are_taken_in_their_type():
    row = Row("f", "line 1", {"id": 12, "digits": "-3", "one": "a", "many": ["a", "b"], "empty": ""})
    assert (row.name("id"), row.integer("digits"), row.texts("one")) == ("12", -3, ("a",))
    assert (row.texts("answers", "many"), row.text("empty", empty=True)) == (("a", "b"), "")
    assert row.optional("gone") is None
    row = Row("f", "line 1", {"answer": 305, "answers": [1.5, "2"], "odd": [True], "gone": [None]})
    assert (row.texts("answer"), row.texts("answers")) == (("305",), ("1.5", "2"))
    for name in ("odd", "gone"):
        with pytest.raises(DataError, match=f"'{name}' must be a text or a list of texts"):
            row.texts(name)
    row = Row("f", "line 1", {"m": 36.0, "digits": "-36.00", "id": 1.0, "odd": "36.5"})
    assert (row.integer("m"), row.integer("digits"), row.name("id")) == (36, -36, "1.0")
    with pytest.raises(DataError, match=r"'odd' must be a whole number, was: '36\.5'"):
        row.integer("odd")


def test_the_limit_of_a_cell_fits_a_c_long_of_32_bits(tmp_path, monkeypatch):
    """On Windows a larger one is an OverflowError, and no table could be read."""
    real, limits = csv.field_size_limit, []
    monkeypatch.setattr(csv, "field_size_limit", lambda limit: limits.append(limit) or real(limit))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert fields(tmp_path / "a.csv") == [{"a": "1", "b": "2"}] and max(limits) < 2**31


def test_the_longest_cell_is_set_by_one_reader_at_a_time(tmp_path, monkeypatch):
    """It is the process's: one thread's end would cut another's cells short."""
    real, held = csv.reader, []
    monkeypatch.setattr(csv, "reader", lambda *a, **k: held.append(rows._CELLS.locked()) or real(*a, **k))
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert fields(tmp_path / "a.csv") == [{"a": "1", "b": "2"}]
    assert held == [True] and not rows._CELLS.locked()


def example(row):
    return Example(row.name("id"), "p.png", row.text("text"), ("a",), "p", "d")


def test_bad_rows_are_counted_where_asked_and_the_first_messages_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = "".join(f'{{"id": {k}}}\n' for k in range(20))
    path.write_text('{"id": 90, "text": "x"}\n{"id"\n' + bad + '{"id": 90, "text": "again"}\n')
    tally = Tally(skip_bad=True)
    examples = list(tally.each(read_rows(path, tally), example))
    assert [one.question for one in examples] == ["x"]
    assert tally.bad == 22 and len(tally.messages) == 10
    assert "line 2: must be valid JSON" in tally.messages[0]
    assert "line 3: a row must have the field 'text'" in tally.messages[1]


def test_two_rows_of_one_id_are_refused_with_both_places(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 7, "text": "x"}\n{"id": "7", "text": "y"}\n')
    with pytest.raises(
        DataError, match=r"a\.jsonl, line 2: an id may be given once \(first in a\.jsonl, line 1\), was: '7'"
    ):
        list(Tally().each(read_rows(tmp_path / "a.jsonl"), example))


def test_a_document_is_told_from_lines(tmp_path):
    path = tmp_path / "a.json"
    for text, one in [('{"a": 1}', True), ('{\n "a": 1\n}', True), ('{"a": 1}\n{"a": 2}\n', False), ("[1]", False)]:
        path.write_text(text)
        assert is_document(path) is one
    with pytest.raises(DataError, match=r"a\.json must hold one JSON object, was: \[1\]"):
        read_document(path)


def test_parquet_gives_plain_values_and_says_what_to_install(tmp_path, monkeypatch):
    import pandas

    table = pandas.DataFrame({"id": ["a", "b"], "n": [1, 2], "x": [0.1 + 0.2, None], "many": [["p", "q"], ["r"]]})
    table.to_parquet(tmp_path / "a.parquet")
    assert fields(tmp_path / "a.parquet") == [
        {"id": "a", "n": 1, "x": 0.1 + 0.2, "many": ["p", "q"]},
        {"id": "b", "n": 2, "x": None, "many": ["r"]},
    ]
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"must be whole, was: torn\.parquet"):
        fields(tmp_path / "torn.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="run `pip install pyarrow`"):
        fields(tmp_path / "a.parquet")
