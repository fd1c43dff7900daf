"""Messages show what was received, whatever it was, and stay readable."""

import pytest
import torch

from encoders.decoding import Decoding
from encoders.errors import MatryoshkaError, shown
from encoders.images import open_image
from encoders.loading import load
from encoders.m3 import pool
from encoders.prompts import check_question, template
from encoders.sampling import SampledProjection, sequential_sample


def test_short_values_are_shown_whole_and_long_ones_cut():
    assert shown("nine") == "'nine'"
    assert shown("x" * 10**6) == "'" + "x" * 199 + "..."


def test_what_cannot_be_written_out_is_named_by_its_type():
    """Python writes no integer of more than 4300 digits: the message itself failed, with another error."""
    assert shown(10**5000) == "a value of type int that cannot be written out"


RECEIVED = {
    "m": lambda tiny, value: tiny.check_m(value),
    "m of a connector": lambda tiny, value: tiny.connector(torch.zeros(1, 16, 32), value),
    "m of a pool": lambda tiny, value: pool(torch.zeros(1, 16, 4), value),
    "m of a sample": lambda tiny, value: sequential_sample(torch.zeros(1, 16, 4), value),
    "a count": lambda tiny, value: tiny.decoding(value if isinstance(value, str) else -value),
    "a temperature": lambda tiny, value: Decoding(1, 2, temperature=value),
    "a share of the nucleus": lambda tiny, value: Decoding(1, 2, top_p=value),
    "a method": lambda tiny, value: SampledProjection(4, 4, 4, value),
    "a template": lambda tiny, value: template(value),
    "a question": lambda tiny, value: check_question(value if isinstance(value, int) else " " * len(value)),
}


@pytest.mark.parametrize("value", ["9" * 10**6, 10**5000], ids=["a long text", "a huge number"])
@pytest.mark.parametrize("what", RECEIVED, ids=str)
def test_no_message_echoes_without_end(tiny, what, value):
    with pytest.raises(MatryoshkaError, match=", was: ") as told:
        RECEIVED[what](tiny, value)
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("read", [load, open_image])
def test_no_message_echoes_a_path_without_end(read):
    with pytest.raises(MatryoshkaError, match=r"x{199}") as told:
        read("x" * 10**5)
    assert len(str(told.value)) < 500
