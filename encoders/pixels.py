"""What can be said about a picture from its pixels alone, on a copy resized to a stated side.

Knows pixels. Knows no tensor, no question and no model; loads no torch, so that worker processes stay light.
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 96  # the copy's longer side, pixels; a smaller picture is enlarged, so that figures compare
_SCALES = (1, 2, 4)  # the copy is looked at whole, halved and quartered
_EDGE = 24.0  # steps of luminance between neighbours that count as an edge, of 255
_CELLS = 8  # a grid of cells for what is local
_RINGS = 24  # of frequencies, thirty-two to the sampling rate
_TINY = 1e-12

NAMES = (
    *("log_pixels", "log_aspect", "jpeg_bytes_per_pixel"),
    *("luminance_mean", "luminance_std", "luminance_entropy", "saturation_mean", "colour_entropy"),
    *(f"edges_{scale}" for scale in _SCALES),
    *("spectral_slope", "high_frequency_share"),
    *("cell_edges_max", "cell_edges_spread", "busy_cells", "stripes_max", "stripes_mean"),
)


def pixel_statistics(picture: Image.Image) -> np.ndarray:
    """(len(NAMES),) float32 of an RGB picture.

    Entropies are in bits; edges are shares of neighbouring pairs that differ by more than 24 of 255; the spectral slope
    is that of log power over log frequency; stripes count strong alternations along a row of a cell, which print has
    and most else has not.
    """
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    copy = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    colours = np.asarray(copy, dtype=np.float32)
    luminance = colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    channels = colours[..., 0], colours[..., 1], colours[..., 2]  # max over an axis of three is ten times slower
    brightest = functools.reduce(np.maximum, channels)
    spread = brightest - functools.reduce(np.minimum, channels)
    quarters = [channel.astype(np.uint8) // 64 for channel in channels]
    edges = [_edges(_shrunk(luminance, scale)) for scale in _SCALES]
    values = [
        math.log(picture.width * picture.height),
        math.log(picture.width / picture.height),
        _jpeg_bytes(copy) / (size[0] * size[1]),
        luminance.mean(),
        luminance.std(),
        _entropy(luminance.astype(np.uint8).ravel() // 4, 64),
        (spread / np.maximum(brightest, 1)).mean(),
        _entropy((16 * quarters[0] + 4 * quarters[1] + quarters[2]).ravel(), 64),
        *(there.mean() for there in edges),
        *_spectrum(luminance),
        *_cells(edges[0], luminance),
    ]
    return np.array(values, dtype=np.float32)


def _jpeg_bytes(picture: Image.Image) -> int:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75)
    return stream.tell()


def _entropy(values: np.ndarray, bins: int) -> float:
    share = np.bincount(values, minlength=bins) / values.size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


def _shrunk(luminance: np.ndarray, factor: int) -> np.ndarray:
    """Averages over factor x factor pixels; a side shorter than that stays one pixel long."""
    if factor == 1:
        return luminance
    height, width = (max(1, length // factor) for length in luminance.shape)
    rows, columns = (min(factor, length) for length in luminance.shape)
    cells = luminance[: height * rows, : width * columns].reshape(height, rows, width, columns)
    # Sums of slices: a mean over two axes of four takes up to five times as long.
    total = sum(sum(cells[:, row, :, column] for column in range(columns)) for row in range(rows))
    return np.asarray(total / np.float32(rows * columns))


def _edges(luminance: np.ndarray) -> np.ndarray:
    """Where a pixel differs strongly from the next below or to the right."""
    strong = np.zeros(luminance.shape, dtype=bool)
    strong[:-1] |= np.abs(luminance[1:] - luminance[:-1]) > _EDGE
    strong[:, :-1] |= np.abs(luminance[:, 1:] - luminance[:, :-1]) > _EDGE
    return strong


def _spectrum(luminance: np.ndarray) -> tuple[float, float]:
    """(slope of log power over log frequency, share of the power above a quarter of the sampling rate)."""
    rings = _Rings.of(luminance.shape)
    power = np.abs(np.fft.rfft2(luminance - luminance.mean())) ** 2
    power = power.ravel()[rings.there]
    if not power.size or (whole := power.sum()) < _TINY:
        return 0.0, 0.0
    mean = np.bincount(rings.ring, power, minlength=_RINGS)[rings.filled] / rings.count
    return float(rings.slope @ np.log(mean + _TINY)), float(power[rings.high].sum() / whole)


@dataclass(frozen=True)
class _Rings:
    """What the frequencies of all pictures of one shape have in common."""

    there: np.ndarray  # places of the half spectrum, the constant left out
    high: np.ndarray  # which of them lie above a quarter of the sampling rate
    ring: np.ndarray  # to which ring each belongs
    filled: np.ndarray  # which rings have any
    count: np.ndarray  # places in each of those
    slope: np.ndarray  # weights of log power by ring whose sum is the least-squares slope over log frequency

    @classmethod
    @functools.lru_cache(maxsize=256)
    def of(cls, shape: tuple[int, int]) -> _Rings:
        """Of pictures of (height, width) pixels."""
        vertical, horizontal = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
        radius = np.sqrt(vertical**2 + horizontal**2).ravel()
        there = np.flatnonzero(radius > 0)
        radius = radius[there]
        ring = np.minimum((radius * 2 * 16).astype(int), _RINGS - 1)
        count = np.bincount(ring, minlength=_RINGS)
        filled = count > 0
        logs = np.log(np.bincount(ring, radius, minlength=_RINGS)[filled] / count[filled])
        slope = np.zeros_like(logs)
        if logs.size > 1:
            centred = logs - logs.mean()
            slope = centred / (centred @ centred)
        return cls(there, radius > 0.25, ring, filled, count[filled], slope)


def _cells(edges: np.ndarray, luminance: np.ndarray) -> tuple[float, ...]:
    """Edges and stripes per cell: (most edges, their spread, share of busy cells, most stripes, mean stripes)."""
    density, striped = _cell_means(edges), _cell_means(_stripes(luminance))
    busy = float((density > 0.15).mean())
    return float(density.max()), float(density.std()), busy, float(striped.max()), float(striped.mean())


def _cell_means(there: np.ndarray) -> np.ndarray:
    """Means over a grid of at most 8 x 8 cells that differ by at most a pixel in size."""
    (top, left), area = _cell_places(there.shape)
    sums = np.add.reduceat(np.add.reduceat(there.astype(np.float64), top, axis=0), left, axis=1)
    means: np.ndarray = sums / area
    return means


@functools.lru_cache(maxsize=256)
def _cell_places(shape: tuple[int, int]) -> tuple[list[np.ndarray], np.ndarray]:
    """(first rows and first columns of the cells, pixels in each)."""
    starts = [np.arange(count) * length // count for length in shape for count in [min(_CELLS, length)]]
    heights, widths = (np.diff(own, append=length) for own, length in zip(starts, shape, strict=True))
    return starts, np.outer(heights, widths)


def _stripes(luminance: np.ndarray) -> np.ndarray:
    """Where, within three pixels to the right, a strong step is followed by one of the other sign."""
    step = np.zeros_like(luminance)
    step[:, :-1] = luminance[:, 1:] - luminance[:, :-1]
    up, down = step > _EDGE, step < -_EDGE
    found = np.zeros(luminance.shape, dtype=bool)
    for reach in (1, 2, 3):
        if luminance.shape[1] > reach:
            found[:, :-reach] |= (up[:, :-reach] & down[:, reach:]) | (down[:, :-reach] & up[:, reach:])
    return found
