"""What can be said about a picture from its pixels alone, on a copy resized to a stated side.

Knows pixels. Knows no tensor, no question and no model; loads no torch, so that worker processes stay light.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
from PIL import Image

SIDE = 96  # the copy's longer side, pixels; a smaller picture is enlarged, so that figures compare
_SCALES = (1, 2, 4)  # the copy is looked at whole, halved and quartered
_EDGE = 24.0  # steps of luminance between neighbours that count as an edge, of 255
_CELLS = 8  # a grid of cells for what is local
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
    values = [
        math.log(picture.width * picture.height),
        math.log(picture.width / picture.height),
        _jpeg_bytes(copy) / (size[0] * size[1]),
        luminance.mean(),
        luminance.std(),
        _entropy(luminance.astype(np.uint8).ravel() // 4, 64),
        (spread / np.maximum(brightest, 1)).mean(),
        _entropy((colours.astype(np.uint8) // 64 @ np.array([16, 4, 1], dtype=np.uint8)).ravel(), 64),
        *(_edges(_shrunk(luminance, scale)).mean() for scale in _SCALES),
        *_spectrum(luminance),
        *_cells(luminance),
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
    height, width = (max(1, length // factor) for length in luminance.shape)
    rows, columns = (min(factor, length) for length in luminance.shape)
    cut = luminance[: height * rows, : width * columns]
    return cut.reshape(height, rows, width, columns).mean(axis=(1, 3))


def _edges(luminance: np.ndarray) -> np.ndarray:
    """Where a pixel differs strongly from the next below or to the right."""
    strong = np.zeros(luminance.shape, dtype=bool)
    strong[:-1] |= np.abs(np.diff(luminance, axis=0)) > _EDGE
    strong[:, :-1] |= np.abs(np.diff(luminance, axis=1)) > _EDGE
    return strong


def _spectrum(luminance: np.ndarray) -> tuple[float, float]:
    """(slope of log power over log frequency, share of the power above a quarter of the sampling rate)."""
    centred = luminance - luminance.mean()
    power = np.abs(np.fft.rfft2(centred)) ** 2
    vertical, horizontal = np.fft.fftfreq(luminance.shape[0])[:, None], np.fft.rfftfreq(luminance.shape[1])[None]
    radius = np.sqrt(vertical**2 + horizontal**2)
    there = radius > 0
    if not there.any() or power[there].sum() < _TINY:
        return 0.0, 0.0
    ring = np.minimum((radius[there] * 2 * 16).astype(int), 23)
    count = np.bincount(ring, minlength=24)
    mean = np.bincount(ring, power[there], minlength=24)[count > 0] / count[count > 0]
    frequency = np.bincount(ring, radius[there], minlength=24)[count > 0] / count[count > 0]
    high = float(power[radius > 0.25].sum() / power[there].sum())
    if len(frequency) < 2:
        return 0.0, high
    return float(np.polyfit(np.log(frequency), np.log(mean + _TINY), 1)[0]), high


def _cells(luminance: np.ndarray) -> tuple[float, ...]:
    """Edges and stripes per cell: (most edges, their spread, share of busy cells, most stripes, mean stripes)."""
    density, striped = _cell_means(_edges(luminance)), _cell_means(_stripes(luminance))
    busy = float((density > 0.15).mean())
    return float(density.max()), float(density.std()), busy, float(striped.max()), float(striped.mean())


def _cell_means(there: np.ndarray) -> np.ndarray:
    """Means over a grid of at most 8 x 8 cells that differ by at most a pixel in size."""
    starts = [np.arange(count) * length // count for length in there.shape for count in [min(_CELLS, length)]]
    sums = np.add.reduceat(np.add.reduceat(there.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    heights, widths = (np.diff(own, append=length) for own, length in zip(starts, there.shape, strict=True))
    means: np.ndarray = sums / np.outer(heights, widths)
    return means


def _stripes(luminance: np.ndarray) -> np.ndarray:
    """Where, within three pixels to the right, a strong step is followed by one of the other sign."""
    step = np.diff(luminance, axis=1, append=luminance[:, -1:])
    up, down = step > _EDGE, step < -_EDGE
    found = np.zeros(luminance.shape, dtype=bool)
    for reach in (1, 2, 3):
        if luminance.shape[1] > reach:
            found[:, :-reach] |= (up[:, :-reach] & down[:, reach:]) | (down[:, :-reach] & up[:, reach:])
    return found
