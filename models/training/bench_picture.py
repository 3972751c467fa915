"""Draws models/bench.jpg, the picture that `vouch bench` uses where none is named: a rendered person, nobody's face.

`python -m models.training.bench_picture`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from simulator.person.render import Person, PersonState, render

TARGET = Path(__file__).resolve().parents[1] / "bench.jpg"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.training.bench_picture", description=__doc__)
    parser.parse_args()  # nothing to choose; but who asks for help wants no picture
    picture, _ = render(Person.from_seed(2), PersonState(yaw_deg=4.0), (640, 480))
    cv2.imwrite(str(TARGET), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
