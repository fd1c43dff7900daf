"""Draws docs/scenes.png: sixteen scenes of each style with their questions and answers."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from training_data.scenes import STYLE_NAMES, questions, render, scene

CELL, CAPTION, COLUMNS, ROWS = 144, 34, 8, 2
font = ImageFont.load_default(11)
sheet = Image.new("RGB", (COLUMNS * (CELL + 8), 2 * ROWS * (CELL + CAPTION)), "white")
draw = ImageDraw.Draw(sheet)
for block, style in enumerate(STYLE_NAMES):
    for k in range(COLUMNS * ROWS):
        facts = scene(k, style, "calibrate")
        x, y = k % COLUMNS * (CELL + 8), (block * ROWS + k // COLUMNS) * (CELL + CAPTION)
        sheet.paste(render(facts).resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
        question = questions(facts)[0]
        draw.text((x, y + CELL + 1), question.text[:27], fill="black", font=font)
        note = "" if question.answerable else " (unanswerable)"
        draw.text((x, y + CELL + 15), question.answer + note, fill="firebrick" if note else "black", font=font)
sheet.save(Path(__file__).resolve().parent.parent / "docs" / "scenes.png")
