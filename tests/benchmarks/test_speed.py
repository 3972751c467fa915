"""What a frame may cost, in processor time of the one thread, so that a busy machine does not fail what a slip must.

Limits are twice what is promised: a machine under load also has colder caches and a slower clock.
"""

import time

import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.drivers.document import from_file
from edge.session.observation import FrameInfo
from edge.vision.bench import bench
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline


@pytest.fixture(scope="module")
def picture():
    return from_file(DEFAULT_PACK / "bench.jpg")


@pytest.fixture(scope="module")
def frame_ms(picture):
    """Processor milliseconds of tracked frames: plain with the passive model, and what a template adds."""
    pipeline = Pipeline(Pack.load(DEFAULT_PACK))
    spent = {False: [], True: []}
    for k in range(80):
        embed = k % 2 == 1
        began = time.thread_time()
        seen = pipeline.process(picture, FrameInfo(k, k / 30, 640, 480), embed=embed, bona_fide=True)
        spent[embed].append((time.thread_time() - began) * 1000)
        assert seen.face is not None
    plain, with_template = (float(np.median(spent[embed][5:])) for embed in (False, True))
    return plain, with_template - plain


def test_a_frame_while_tracking_keeps_its_budget_of_6_ms(frame_ms):
    assert frame_ms[0] < 2 * 6.0


def test_a_template_costs_less_than_two_frames(frame_ms):
    """Beside a frame of the same run: a processor without int8 dot products cannot keep 2.5 ms. Seen there:
    13.1 ms beside a frame of 8.1. With them a frame takes 2.0 to 2.4 ms, and this is less than 2 x 2.5.
    """
    assert frame_ms[1] < 2 * frame_ms[0]


def test_a_decision_and_opening_the_pack_keep_their_budgets(picture):
    run = bench(DEFAULT_PACK, [picture], None, rounds=5)
    assert run.runs[0].stages["decision"].median_ms < 150
    assert run.load_ms < 3 * 300
