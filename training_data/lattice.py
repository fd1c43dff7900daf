"""Pictures of things in rows and columns, for teaching a tower who stands beside whom: no question is asked about them.

Knows drafts. A picture whose question is of a relation holds two or three pairs of neighbours, a lattice thirty; a
tower that saw the first alone had not begun to tell them after 800 steps (docs/log.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training_data.scenes.draft import STYLES, Draft, log_uniform, make_ground
from training_data.scenes.facts import SHAPES, SIDE, STYLE_NAMES, Scene, StyleName

_JITTER = 2.0  # of each centre, pixels each way: things of a line stay abreast


def lattice(index: int, style: StyleName = "a") -> Scene:
    """Facts of lattice `index`: two to four rows and columns, a place in five left empty."""
    rng = np.random.default_rng([10, STYLE_NAMES.index(style), index])
    draft = Draft(rng, style, "train", (), make_ground(rng, STYLES[style], None), arrangement="lattice")
    rows, columns = (int(number) for number in rng.integers(2, 5, 2))
    pitch = SIDE / max(rows, columns)
    places = [place for place in np.ndindex(rows, columns) if rng.random() < 0.8]
    shift = rng.uniform(0, SIDE - pitch * np.array([rows, columns]))
    for row, column in places:
        draft.add_thing(str(rng.choice(SHAPES)), draft.colour(), log_uniform(rng, 8, pitch - 2 * _JITTER - 2))
        y, x = shift + (np.array([row, column]) + 0.5) * pitch + rng.uniform(-_JITTER, _JITTER, 2)
        draft.things[-1] = replace(draft.things[-1], x=round(float(x), 1), y=round(float(y), 1))
    noise = 0.0 if rng.random() < 0.4 else float(rng.uniform(1, 9))
    seed, name = int(rng.integers(2**31)), f"{style}-lattice-{index}"
    things = tuple(draft.things)
    return Scene(name, style, "lattice", draft.ground, things, (), (), round(noise, 1), seed, False, "lattice")
