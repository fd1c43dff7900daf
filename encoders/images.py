"""Pictures from anywhere to RGB, and RGB to the square array that a vision tower takes.

Accepts paths, bytes, PIL pictures and NumPy arrays; refuses what cannot be read with an ImageError, never with a
traceback of Pillow's. Knows pixels. Knows no tensor and no model.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from encoders.errors import ImageError, shown

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray

TRANSPARENT_OVER = (255, 255, 255)  # transparent pictures are composited on white
MAX_PIXELS = 100_000_000
MAX_BYTES = 500_000_000  # of a picture file: MAX_PIXELS of RGBA without compression, and some
_MAX_SQUARE_SIDE = 4096  # longer pictures shrink before padding: a 1 x 100,000 strip must not become 10 gigapixels
_HALF_DEPTH = 257  # 65535 / 255
_TURNS = {  # what an EXIF orientation asks for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALONE = nullcontext()
_shared = threading.Lock()  # Pillow reads a picture's file when it is first looked at, by one thread at a time


def open_image(source: ImageSource) -> Image.Image:
    """Read a picture as RGB: upright (EXIF), first frame, 16-bit scaled to 8, transparency composited on white.

    Args:
        source: a path, the bytes of a picture file, a PIL picture, or an array (H, W), (H, W, 3) or (H, W, 4) of uint8,
            or of floats in [0, 1].

    Raises:
        ImageError: missing, empty, truncated, damaged, over 100 megapixels or 500 MB, or not a picture at all.
    """
    if isinstance(source, np.ndarray):
        return _to_rgb(_from_array(source), "an array")
    if isinstance(source, Image.Image):
        return _to_rgb(source, "a PIL picture", _shared)
    if isinstance(source, bytes | bytearray | memoryview):
        name, stream = f"{len(source)} bytes", io.BytesIO(bytes(source))
        return _to_rgb(_open(stream, name), name)
    if isinstance(source, str | os.PathLike):
        name = f"the file {shown(Path(source).name)}"
        return _to_rgb(_open(io.BytesIO(_content(Path(source))), name), name)
    raise ImageError(
        f"an image must be a path, bytes, a PIL picture or a NumPy array, was: {type(source).__name__}; "
        "open it with PIL.Image.open first"
    )


def is_one_picture(source: object) -> bool:
    """Whether this is a single picture, or at least no list of them."""
    single = isinstance(source, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | np.ndarray)
    return single or not hasattr(source, "__len__")


def _content(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end, or never begin
            raise OSError("not a regular file")
        if found.st_size <= MAX_BYTES:
            return path.read_bytes()
    except (OSError, ValueError, MemoryError) as error:
        raise ImageError(
            f"an image path must name a readable file, was: {shown(str(path))} ({_reason(error)}); check the path"
        ) from error
    raise ImageError(
        f"a picture file must have at most {MAX_BYTES:,} bytes, was: {found.st_size:,} in {shown(path.name)}; "
        "shrink it first"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0][:120]


def _open(stream: io.BytesIO, name: str) -> Image.Image:
    try:
        with _shared, warnings.catch_warnings():  # filters are the process's
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, stricter limit follows
            picture = Image.open(stream)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"a picture file must be in a format Pillow reads (PNG, JPEG, WebP, ...), was: {name} in no known format"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(name, None)) from error
    except Exception as error:  # damaged headers raise whatever the format's parser happened to meet
        raise ImageError(f"a picture file must be whole, was: {name}, damaged ({_reason(error)})") from error
    return picture


def _too_large(name: str, size: tuple[int, int] | None) -> str:
    found = f"{size[0]} x {size[1]}" if size else "far more"
    return f"a picture must have at most {MAX_PIXELS:,} pixels, was: {found} in {name}; shrink it first"


def _to_rgb(picture: Image.Image, name: str, guard: AbstractContextManager[Any] = _ALONE) -> Image.Image:
    if picture.width < 1 or picture.height < 1:
        raise ImageError(f"a picture must have at least one pixel, was: {picture.width} x {picture.height} in {name}")
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(_too_large(name, picture.size))
    try:
        with guard:
            picture.load()
            picture = _upright(picture)
        return _eight_bit_rgb(picture)
    except ImageError:
        raise
    except Exception as error:  # truncated or corrupt data raise OSError, SyntaxError, struct.error, ...
        raise ImageError(
            f"a picture file must be whole, was: {name}, truncated or corrupt ({_reason(error)}); save it again"
        ) from error


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF block says; as it is where that block cannot be read, as viewers do.

    Pillow's own `exif_transpose` also writes the block anew, and fails where some other entry cannot be written.
    """
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damage in it raises SyntaxError, struct.error, ...
        return picture
    return picture if turn is None else picture.transpose(turn)


def _eight_bit_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 or 32 bits of gray; Pillow's own conversion clips instead of scaling
        return _eight_bit_gray(picture)
    if picture.mode == "F":
        return _from_array(np.asarray(picture)).convert("RGB")
    if picture.mode in ("La", "RGBa"):  # premultiplied; Pillow converts these only to their plain twins
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        under = Image.new("RGBA", layer.size, (*TRANSPARENT_OVER, 255))
        return Image.alpha_composite(under, layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bit_gray(picture: Image.Image) -> Image.Image:
    """16 bits divided by 257; 32-bit pictures likewise where they hold more than 8 bits. A colour key becomes white."""
    levels = np.asarray(picture).astype(np.int64)
    sixteen = picture.mode.startswith("I;16") or levels.max(initial=0) > 255
    scaled = np.clip(levels // _HALF_DEPTH if sixteen else levels, 0, 255).astype(np.uint8)
    if isinstance(key := picture.info.get("transparency"), int):
        scaled = np.where(levels == key, np.uint8(255), scaled)
    return Image.fromarray(scaled).convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shape_ok or array.size == 0:
        raise ImageError(f"an image array must be (H, W), (H, W, 3) or (H, W, 4) and not empty, was: {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:  # before anything is copied
        raise ImageError(_too_large("an array", (array.shape[1], array.shape[0])))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ImageError(
                f"a float image array must lie in [0, 1], was: {array.min()} .. {array.max()}; divide by 255 or clip it"
            )
        return Image.fromarray((array * 255).round().astype(np.uint8))
    raise ImageError(f"an image array must be uint8, or floats in [0, 1], was: {array.dtype}; convert it first")


def square(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Pad an RGB picture to a square with `colour`, the picture in the middle (LLaVA's `expand2square`)."""
    longest = max(picture.size)
    if longest > _MAX_SQUARE_SIDE:
        scale = _MAX_SQUARE_SIDE / longest
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        longest = max(picture.size)
    if picture.width == picture.height:
        return picture
    canvas = Image.new("RGB", (longest, longest), colour)
    canvas.paste(picture, ((longest - picture.width) // 2, (longest - picture.height) // 2))
    return canvas


@dataclass(frozen=True)
class Preparation:
    """What a vision tower wants done to an RGB picture; picklable, so that worker processes can do it."""

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pad_colour: tuple[int, int, int]

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """The tower's input, (3, side, side) float32: padded to a square, resized bicubically, normalised."""
        fitted = square(picture, self.pad_colour)
        if fitted.size != (self.side, self.side):
            fitted = fitted.resize((self.side, self.side), Image.Resampling.BICUBIC)
        scaled = np.asarray(fitted, dtype=np.float32) / 255
        centred = (scaled - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)
        return centred.transpose(2, 0, 1)
