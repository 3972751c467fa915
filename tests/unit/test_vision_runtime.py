"""One model: what goes in and comes out, by a graph whose answer is known."""

import numpy as np
import pytest

from edge.vision.pack import Activation, EmbedderSpec, Meaning, OutputSpec, Part
from edge.vision.runtime import Model, probability
from tests.tiny_models import Output, build


def spec(dtype="float32", colour="rgb", scale=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0)):
    return EmbedderSpec.model_validate(
        {
            "file": "m.tflite",
            "sha256": "0" * 64,
            "size_bytes": 1,
            "licence": "Apache-2.0",
            "input": {"shape": (1, 8, 8, 3), "dtype": dtype, "colour": colour, "scale": scale, "offset": offset},
            "outputs": [
                {
                    "tensor": 0,
                    "shape": (1, 3),
                    "dtype": dtype,
                    "holds": [{"meaning": "embedding", "count": 3}],
                }
            ],
            "match": [{"fmr_ppm": 1000, "score": 0.4}],
        }
    )


def plain(blue, green, red):
    return np.full((8, 8, 3), (blue, green, red), np.uint8)


IDENTITY = [Output((1, 3), np.eye(3))]


def test_a_model_that_wants_rgb_gets_red_first():
    answer = Model(spec(), build(8, 8, IDENTITY)).run(plain(10, 20, 30))
    assert answer[Meaning.EMBEDDING].tolist() == [[30, 20, 10]]


def test_a_model_that_wants_bgr_gets_the_picture_as_it_is():
    answer = Model(spec(colour="bgr"), build(8, 8, IDENTITY)).run(plain(10, 20, 30))
    assert answer[Meaning.EMBEDDING].tolist() == [[10, 20, 30]]


def test_each_channel_is_scaled_as_the_manifest_says():
    told = spec(scale=(0.5, 2.0, 1.0), offset=(-1.0, 3.0, 0.0))
    answer = Model(told, build(8, 8, IDENTITY)).run(plain(10, 20, 30))
    assert answer[Meaning.EMBEDDING].tolist() == [[14, 43, 10]]


def test_an_int8_model_answers_in_real_values_within_half_a_step():
    told = spec(dtype="int8", scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)
    step = 2 / 255
    model = Model(told, build(8, 8, IDENTITY, int8=(step, -1)))
    for pixel in (0, 1, 77, 128, 254, 255):
        answer = model.run(plain(pixel, pixel, pixel))[Meaning.EMBEDDING]
        assert np.abs(answer - (pixel / 127.5 - 1)).max() <= step


def test_parts_of_a_tensor_come_out_by_meaning():
    holds = (Part(meaning=Meaning.EMBEDDING, first=1, count=2), Part(meaning=Meaning.PRESENCE, count=1))
    output = OutputSpec(tensor=0, shape=(1, 3), dtype="float32", holds=holds)
    told = spec().model_copy(update={"outputs": (output,)})
    answer = Model(told, build(8, 8, IDENTITY)).run(plain(10, 20, 30))
    assert answer[Meaning.EMBEDDING].tolist() == [[20, 10]]
    assert answer[Meaning.PRESENCE].tolist() == [[30]]


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 8), (8, 8, 4)])
def test_a_picture_of_another_size_is_a_programming_error(shape):
    with pytest.raises(ValueError, match=r"m\.tflite takes"):
        Model(spec(), build(8, 8, IDENTITY)).run(np.zeros(shape, np.uint8))


def test_wiping_leaves_nothing_of_the_last_picture_in_the_tensors():
    model = Model(spec(), build(8, 8, IDENTITY))
    model.run(plain(10, 20, 30))
    model.wipe()
    interpreter = model._interpreter
    assert not model._ordered.any()
    assert not model._filled.any()
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert not interpreter.get_tensor(detail["index"]).any()


def test_probabilities_stay_in_range_for_any_logit():
    extreme = np.array([[-1e9, 1e9]], np.float32)
    assert probability(extreme, Activation.LOGIT).tolist() == [[pytest.approx(0), 1]]
    assert probability(extreme, Activation.SOFTMAX).tolist() == [[0, 1]]
    assert probability(np.array([-0.5, 1.5], np.float32), Activation.PROBABILITY).tolist() == [0, 1]
