"""Draws examples/sign.png: a picture from outside the procedural world, for the README and `make answer`."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
FONT = HERE.parent / "training_data" / "fonts" / "Oxygen-Sans-Bold.ttf"

picture = Image.new("RGB", (384, 384), (92, 150, 96))
draw = ImageDraw.Draw(picture)
draw.rounded_rectangle([70, 96, 314, 226], 22, fill=(236, 232, 220))
draw.text((192, 162), "629", font=ImageFont.truetype(FONT, 92), fill=(40, 40, 50), anchor="mm")
draw.rectangle([184, 226, 200, 384], fill=(118, 84, 58))
draw.ellipse([300, 20, 356, 76], fill=(250, 214, 60))
picture.save(HERE / "sign.png")
