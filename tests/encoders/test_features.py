"""Visual features: finite for any picture, the same in any company, and saying what they claim to say."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from encoders import pixels
from encoders.errors import ImageError, QuestionError
from encoders.features import feature_names, match_features, picture_features, tflops, visual_features
from encoders.images import open_image
from encoders.pixels import NAMES, pixel_statistics

STRANGE = [(1, 1), (1, 500), (500, 1), (2, 3), (7, 96), (96, 96), (1200, 900)]


def value(picture, name):
    return float(pixel_statistics(picture)[NAMES.index(name)])


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", STRANGE)
@pytest.mark.parametrize("make", [lambda w, h: Image.new("RGB", (w, h), (9, 80, 200)), noise])
def test_statistics_are_finite_for_any_picture(size, make):
    found = pixel_statistics(make(*size))
    assert found.shape == (len(NAMES),) and found.dtype == np.float32 and np.isfinite(found).all()


def test_a_plain_picture_has_no_edge_no_stripe_and_no_entropy():
    plain = Image.new("RGB", (200, 100), (120, 120, 120))
    zero = ("luminance_std", "luminance_entropy", "colour_entropy", "edges_1", "edges_4", "stripes_max", "busy_cells")
    assert [value(plain, name) for name in zero] == pytest.approx([0] * len(zero), abs=1e-4)
    assert value(plain, "log_aspect") == pytest.approx(np.log(2))
    assert value(plain, "log_pixels") == pytest.approx(np.log(20_000))


def test_noise_is_busier_than_a_ramp():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 96, dtype=np.uint8)[:, None], (1, 96))).convert("RGB")
    for name in ("edges_1", "jpeg_bytes_per_pixel", "high_frequency_share", "busy_cells", "spectral_slope"):
        assert value(noise(96, 96), name) > value(ramp, name), name


def test_print_has_more_stripes_than_a_block_of_the_same_ink():
    printed, block = (Image.new("RGB", (96, 96), "white") for _ in range(2))
    for x in range(20, 60, 4):
        ImageDraw.Draw(printed).rectangle((x, 40, x + 1, 56), fill="black")
    ImageDraw.Draw(block).rectangle((20, 40, 39, 56), fill="black")
    assert value(printed, "stripes_max") > 3 * value(block, "stripes_max")


def test_the_copy_makes_sizes_compare():
    small = noise(24, 24)
    large = small.resize((240, 240), Image.Resampling.NEAREST)
    assert value(large, "edges_4") == pytest.approx(value(small.resize((96, 96)), "edges_4"), abs=0.1)


@pytest.mark.parametrize("kind", ["mqt", "m3", "average"])
def test_features_of_a_picture_do_not_depend_on_its_company(make_tiny, kind, pictures):
    backbone = make_tiny(kind)
    statistics = [pixel_statistics(open_image(picture)) for picture in pictures]
    questions = ["what number is it", "colour?", "how many red", "x"]
    together = visual_features(backbone, backbone.encode(pictures), questions, statistics)
    assert together.shape == (4, len(feature_names(backbone))) and together.dtype == np.float32
    assert np.isfinite(together).all()
    for row, picture in enumerate(pictures):
        alone = visual_features(backbone, backbone.encode([picture]), [questions[row]])
        assert np.allclose(alone[0], together[row], atol=1e-3)


def test_bands_add_up_to_the_energy_of_all_tokens(make_tiny, pictures):
    for kind, total in (("mqt", lambda t: t.square().sum(dim=(1, 2))), ("m3", lambda t: t.square().sum(-1).mean(-1))):
        backbone = make_tiny(kind)
        encoded = backbone.encode(pictures)
        found = picture_features(backbone, encoded, [np.zeros(len(NAMES), np.float32)] * 4)
        names = feature_names(backbone)[: found.shape[1]]
        bands = np.exp(found[:, [name.startswith("bands_") for name in names]])
        with torch.inference_mode():
            assert np.allclose(bands.sum(1), total(encoded.tokens(backbone.ladder[-1])), rtol=1e-4)


def test_effective_rank_counts_directions(tiny):
    count, width = tiny.patches_shape
    one = torch.randn(1, count, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(width)
    two = torch.zeros(1, count, width)
    two[0, : count // 4, 0], two[0, count // 4 : count // 2, 0] = 1.0, -1.0
    two[0, count // 2 : 3 * count // 4, 1], two[0, 3 * count // 4 :, 1] = 1.0, -1.0
    column = feature_names(tiny).index("patches_effective_rank")
    zeros = [np.zeros(len(pixels.NAMES), np.float32)]
    assert picture_features(tiny, tiny.from_patches(one), zeros)[0, column] == pytest.approx(1, abs=1e-3)
    assert picture_features(tiny, tiny.from_patches(two), zeros)[0, column] == pytest.approx(2, abs=1e-3)


def test_a_word_that_is_in_the_picture_stands_out(tiny):
    """Tokens made of a word's own embedding match it at one place; other words match nowhere so well."""
    word, other = tiny.text_ids("red")[0], tiny.text_ids("7")[0]
    table = tiny.language.get_input_embeddings().weight.detach()
    tokens = 0.05 * torch.randn(tiny.ladder[-1], table.shape[1], generator=torch.Generator().manual_seed(0))
    tokens[3] += table[word] - table.mean(0)

    class Shown:
        def tokens(self, m):
            return tokens[None]

    def peak(token):
        tiny_question = tiny.tokenizer.decode([token])
        return match_features(tiny, Shown(), [tiny_question])[0, [f.endswith("peak") for f in names]][0]

    names = [name for name in feature_names(tiny) if name.startswith("match_")]
    assert peak(word) > 0.8 > peak(other)


def test_features_of_patches_alone_need_their_statistics(tiny, pictures):
    patches = tiny.encode(pictures).patches
    with pytest.raises(ImageError, match="pictures' pixels"):
        visual_features(tiny, tiny.from_patches(patches), ["a"] * 4)


def test_selected_rows_keep_their_pictures(tiny, pictures):
    encoded = tiny.encode(pictures)
    chosen = encoded.select([2, 0, 2])
    expected = visual_features(tiny, encoded, ["a"] * 4)[[2, 0, 2]]
    assert np.allclose(visual_features(tiny, chosen, ["a"] * 3), expected, atol=1e-4)


@pytest.mark.parametrize("groups", [["pixels"], ["bands", "patches"], ["match"], ["pooled", "pixels"]])
def test_only_the_groups_that_are_asked_for_are_made(tiny, pictures, groups, monkeypatch):
    encoded, questions = tiny.encode(pictures), ["a", "b", "c", "d"]
    whole, every = visual_features(tiny, encoded, questions), feature_names(tiny)
    names = feature_names(tiny, groups)
    assert {name.split("_")[0] for name in names} == set(groups)
    makers = {"patches": "_patch_statistics", "bands": "_band_energies", "match": "match_features"}
    for maker in (maker for group, maker in makers.items() if group not in groups):
        monkeypatch.setattr(f"encoders.features.{maker}", None)
    found = visual_features(tiny, encoded, questions, groups=groups)
    assert np.array_equal(found, whole[:, [every.index(name) for name in names]])


def test_what_looking_takes_is_counted_by_group_beside_an_answer(make_tiny):
    """MQT's connector at the top less the smallest m's part; M3's is in every answer whole."""
    mqt, m3 = (tflops(make_tiny(kind)) for kind in ("mqt", "m3"))
    assert mqt["bands"] > 0 == m3["bands"]
    assert mqt["match"] > mqt["bands"] and 0 < m3["match"]
    assert mqt["patches"] == m3["patches"] > 0


def test_a_probe_costs_its_prefill_token_by_token(make_tiny):
    tiny = make_tiny("mqt")
    [alone] = tiny.generate(tiny.encode([np.zeros((9, 9, 3), np.uint8)]), ["what number is written"], tiny.ladder[0])
    told = tiny.cost(alone.visual_tokens, alone.text_tokens, alone.new_tokens)
    prompt = alone.visual_tokens + alone.text_tokens
    assert tflops(tiny)["probe"] * prompt == pytest.approx(told.prefill_tflops, rel=1e-9)
    [long] = tiny.generate(tiny.encode([np.zeros((9, 9, 3), np.uint8)]), ["what is written there " * 4], tiny.ladder[0])
    whole = tiny.cost(long.visual_tokens, long.text_tokens, 1).prefill_tflops
    assert tflops(tiny)["probe"] * (long.visual_tokens + long.text_tokens) == pytest.approx(whole, rel=0.1)


def test_a_second_count_equals_the_first(make_tiny):
    """The first once held what is prepared once per process."""
    tiny = make_tiny("mqt")
    assert tflops(tiny) == tflops(tiny)


def test_questions_are_matched_with_pictures_one_to_one(tiny, pictures):
    encoded = tiny.encode(pictures[:3])
    with pytest.raises(QuestionError, match="each question needs its picture, was: 1 questions for 3 pictures"):
        match_features(tiny, encoded, ["hm"])
    with pytest.raises(QuestionError, match="at least one visible character"):
        match_features(tiny, encoded, ["hm", "", "what"])


def test_the_embedding_table_is_averaged_once_however_many_ask(tiny, pictures, monkeypatch):
    """For each of 32 questions it took half a second of a table of 32,000 entries."""
    table, means = tiny.language.get_input_embeddings().weight, []
    real = torch.Tensor.mean
    monkeypatch.setattr(torch.Tensor, "mean", lambda own, *a, **k: means.append(own is table) or real(own, *a, **k))
    match_features(tiny, tiny.encode(pictures), ["hm", "what", "who", "where"])
    assert sum(means) == 1
