"""Every kind of picture gives the right pixels or one clear error."""

import io
import os
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageOps

from encoders import images
from encoders.errors import ImageError
from encoders.images import MAX_BYTES, MAX_PIXELS, Preparation, open_image, square


def encoded(picture: Image.Image, format_: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


RED = Image.new("RGB", (20, 10), (255, 0, 0))


@pytest.mark.parametrize("kind", ["path", "string", "bytes", "picture", "array"])
def test_every_source_gives_the_same_pixels(tmp_path, kind):
    path = tmp_path / "red.png"
    RED.save(path)
    source = {"path": path, "string": str(path), "bytes": encoded(RED), "picture": RED, "array": np.asarray(RED)}[kind]
    assert np.array_equal(np.asarray(open_image(source)), np.asarray(RED))


def test_sixteen_bits_are_scaled_not_clipped():
    """Pillow's own conversion turns 40,000 of 65,535 into white."""
    levels = np.full((4, 4), 40_000, dtype=np.uint16)
    assert open_image(encoded(Image.fromarray(levels))).getpixel((0, 0)) == (155, 155, 155)


def test_transparent_pictures_lie_on_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert open_image(clear).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encoded(half)).getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] + [0] * 765)
    assert open_image(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(encoded(palette)).getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_every_mode_becomes_rgb(mode):
    picture = Image.new("L", (5, 5), 0).convert(mode)
    assert open_image(picture).mode == "RGB"


def test_a_dark_sixteen_bit_picture_stays_dark():
    for level in (200, 300):
        picture = Image.fromarray(np.full((4, 4), level, dtype=np.uint16))
        assert open_image(encoded(picture)).getpixel((0, 0)) == (level // 257,) * 3


def test_a_palette_of_transparent_colours_is_composited():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0)).quantize(4)
    assert clear.mode == "P" and "transparency" not in clear.info
    assert open_image(clear).getpixel((0, 0)) == (255, 255, 255)


def test_a_colour_key_is_transparent():
    assert open_image(encoded(Image.new("RGB", (4, 4), "red"), transparency=(255, 0, 0))).getpixel((0, 0)) == (255,) * 3


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA"])
def test_rare_modes_with_transparency_are_composited(mode):
    assert open_image(Image.new(mode, (3, 3))).size == (3, 3)


def test_a_picture_that_was_closed_is_one_clear_error(tmp_path):
    RED.save(tmp_path / "red.png")
    with Image.open(tmp_path / "red.png") as picture:
        pass
    with pytest.raises(ImageError, match="must be whole"):
        open_image(picture)


def test_cmyk_keeps_its_colour():
    assert open_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")).getpixel((4, 4)) == (255, 0, 0)


def test_exif_rotation_is_applied():
    wide = Image.new("RGB", (20, 10), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(encoded(wide, "JPEG", exif=exif)).size == (10, 20)


def upright_block(*others):
    """EXIF that asks for a turn, with further entries as (tag, type, bytes of up to four)."""
    entries = sorted([(0x112, 3, struct.pack("<H", 6)), *others])
    body = b"".join(struct.pack("<HHI", tag, kind, 1) + value.ljust(4, b"\0") for tag, kind, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "other", [(0x100, 11, struct.pack("<f", 80.0)), (0x128, 2, b"2\0"), (0x10F, 11, struct.pack("<f", 1.0))]
)
def test_a_turn_is_made_whatever_else_the_block_holds(kind, other):
    """Pillow's own turning writes the block anew, and these entries it reads and cannot write."""
    turned = encoded(Image.new("RGB", (20, 10), "red"), kind, exif=upright_block(other))
    assert open_image(turned).size == (10, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8))
    block = Image.Exif()
    block[0x112] = orientation
    source = encoded(noise, "PNG", exif=block)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    assert open_image(source).tobytes() == expected.tobytes() and open_image(source).size == expected.size


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_image(animation).getpixel((0, 0)) == (255, 0, 0)


def test_float_arrays_are_shares():
    assert open_image(np.full((2, 2, 3), 0.5)).getpixel((0, 0)) == (128, 128, 128)


def noise_png() -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)))


BROKEN = {
    "empty": (b"", "in a format Pillow reads"),
    "garbage": (b"not a picture at all" * 9, "in a format Pillow reads"),
    "truncated PNG": (noise_png()[:2000], "truncated or corrupt"),
    "truncated JPEG": (encoded(Image.new("RGB", (300, 300), "red"), "JPEG")[:700], "truncated or corrupt"),
    "header only": (noise_png()[:24], "must be whole|in a format"),
    "flipped bits": (noise_png()[:900] + b"\xff" * 60 + noise_png()[960:], "truncated or corrupt"),
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_damaged_files_are_one_clear_error(case):
    content, rule = BROKEN[case]
    with pytest.raises(ImageError, match=rule):
        open_image(content)


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header of a huge picture without its data."""
    content = bytearray(encoded(Image.new("L", (1, 1))))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize("size", [(12_000, 12_000), (40_000, 40_000)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(size):
    with pytest.raises(ImageError, match=f"at most {MAX_PIXELS:,} pixels"):
        open_image(bomb(*size))


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: takes no room on the disk
    with pytest.raises(ImageError, match=f"at most {MAX_BYTES:,} bytes, was: {MAX_BYTES + 1:,} in 'huge.png'"):
        open_image(tmp_path / "huge.png")


def test_pipes_and_devices_are_refused_before_they_are_read(tmp_path):
    """A pipe that nobody writes to would be waited for, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.png")
    for path in ("/dev/null", "/dev/zero", tmp_path / "pipe.png"):
        with pytest.raises(ImageError, match=r"must name a readable file, .*not a regular file"):
            open_image(path)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("no/such/file.png", "must name a readable file"),
        ("nul\0byte.png", "must name a readable file"),
        (".", "must name a readable file"),
        (np.zeros((0, 3)), "not empty"),
        (np.zeros((2, 2, 7), np.uint8), r"\(H, W, 3\) or"),
        (np.full((2, 2), 2.0), r"must lie in \[0, 1\]"),
        (np.full((2, 2), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((2, 2), np.int32), "must be uint8"),
        (
            np.broadcast_to(np.uint8(0), (400_000, 400_000)),
            "pixels, was: 400000 x 400000 in an array",
        ),
        (np.broadcast_to(0.5, (400_000, 400_000)), "at most 100,000,000 pixels"),
        (42, "must be a path, bytes"),
        (None, "must be a path, bytes"),
    ],
)
def test_what_is_no_picture_is_refused(source, rule):
    with pytest.raises(ImageError, match=rule):
        open_image(source)


def test_threads_may_share_a_picture_that_nobody_has_looked_at_yet():
    """Pillow reads its file at the first look; two threads at once found it torn."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    stream, expected = io.BytesIO(), np.rot90(noise, -1).tobytes()
    Image.fromarray(noise).save(stream, "PNG", exif=upright_block())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(4):
            shared, start = Image.open(io.BytesIO(stream.getvalue())), threading.Barrier(6)

            def look(shared=shared, start=start):
                start.wait()
                return open_image(shared).tobytes() == expected

            with ThreadPoolExecutor(6) as pool:
                assert all(one.result() for one in [pool.submit(look) for _ in range(6)])
    finally:
        sys.setswitchinterval(before)


def test_the_processes_warnings_are_changed_by_one_thread_at_a_time(monkeypatch):
    """Two at once put each other's filters back, and one of them stayed for good."""
    real, held = Image.open, []
    monkeypatch.setattr(Image, "open", lambda *a, **k: held.append(images._shared.locked()) or real(*a, **k))
    open_image(encoded(Image.new("RGB", (4, 4))))
    assert held == [True] and not images._shared.locked()


def test_padding_centres_the_picture_on_the_stated_colour():
    padded = square(RED, (122, 116, 104))
    assert padded.size == (20, 20)
    assert padded.getpixel((10, 2)) == (122, 116, 104)
    assert padded.getpixel((10, 10)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (100_000, 1), (3, 5000)])
def test_extreme_shapes_do_not_explode(size):
    assert Preparation(96, (0.5,) * 3, (0.5,) * 3, (0, 0, 0))(Image.new("RGB", size)).shape == (3, 96, 96)


def test_preprocessing_equals_the_library_pipeline_of_llava():
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    from encoders.config import CLIP_MEAN, CLIP_PADDING, CLIP_STD

    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 80, 3), dtype=np.uint8))
    processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}, background_color=CLIP_PADDING
    )
    theirs = processor(picture, return_tensors="np")["pixel_values"][0]
    assert np.abs(Preparation(48, CLIP_MEAN, CLIP_STD, CLIP_PADDING)(picture) - theirs).max() < 1e-5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_a_whole_picture_whose_exif_is_damaged_opens_as_it_is(kind):
    assert open_image(encoded(Image.new("RGB", (20, 10), "red"), kind, exif=b"garbage")).size == (20, 10)
