"""docs/your-data.md, run block by block on a user's own 300 questions, as a user would."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training_data.scenes import examples

PAGE = (Path(__file__).parent.parent / "docs" / "your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def write_questions(folder, count):
    """Pictures and questions as anyone has them: files and gold answers, and nothing a generator knows."""
    (folder / "pictures").mkdir()
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for number, example in enumerate(examples(count, "a", "calibrate", start=500_000)):
            example.picture().save(folder / "pictures" / f"{number}.png")
            row = {"image": f"pictures/{number}.png", "question": example.question, "answer": example.answers[0]}
            file.write(json.dumps(row) + "\n")


def test_the_page_shows_every_step():
    commands = [line.split()[1] for kind, code in BLOCKS if not kind for line in code.splitlines()]
    assert commands == ["sweep", "analyse", "study", "fit", "route", "explain", "batch"]


@pytest.mark.slow
def test_three_hundred_questions_become_a_router_and_its_report(tmp_path):
    write_questions(tmp_path, 300)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started = time.monotonic()
    for kind, code in BLOCKS:
        for command in code.strip().splitlines() if not kind else [f"{sys.executable} -c '{code}'"]:
            if kind in ("", "python"):
                done = subprocess.run(
                    command, shell=True, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert time.monotonic() - started < 300
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 300 and sum(row["visual_tokens"] for row in answers) / 300 <= 16
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "How many labels until it pays" in page and (tmp_path / "study" / "labels.png").is_file()
