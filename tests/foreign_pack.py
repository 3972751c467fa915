"""Describes public models as a pack, in a manifest alone: that no code is needed for a foreign model is the point.

None of the public passive models is a .tflite: that part is our own, as a carrier who licenses the rest would keep it.
"""

import hashlib
from pathlib import Path

from edge.config import DEFAULT_PACK
from edge.session.points import MESH_468

_MANIFEST = """\
format = 1
name = "foreign"
version = "1.0"
licence = "Apache-2.0"

[detector]
file = "blazeface_short_range.tflite"
{blazeface_short_range}
licence = "Apache-2.0"
grids = [{{ stride_px = 8, anchors = 2 }}, {{ stride_px = 16, anchors = 6 }}]
box = "centre-size"
unit = "pixel"
keypoints = [0, 1, 2, 3, 3]
score = "logit"
score_min = 0.5
overlap_max = 0.3
input = {{ shape = [1, 128, 128, 3], dtype = "float32", colour = "rgb", scale = [{s}, {s}, {s}], offset = [-1, -1, -1] }}
[[detector.outputs]]
tensor = 0
shape = [1, 896, 16]
dtype = "float32"
holds = [{{ meaning = "box", count = 4 }}, {{ meaning = "keypoints", first = 4, count = 12 }}]
[[detector.outputs]]
tensor = 1
shape = [1, 896, 1]
dtype = "float32"
holds = [{{ meaning = "score", count = 1 }}]

[landmarks]
file = "mp_face_landmark.tflite"
{mp_face_landmark}
licence = "Apache-2.0"
unit = "pixel"
dimensions = 3
points = {points}
presence = "logit"
presence_min = 0.5
input = {{ shape = [1, 192, 192, 3], dtype = "float32", colour = "rgb", scale = [{u}, {u}, {u}], offset = [0, 0, 0] }}
outputs = [
  {{ tensor = 0, shape = [1, 1, 1, 1404], dtype = "float32", holds = [{{ meaning = "points", count = 1404 }}] }},
  {{ tensor = 1, shape = [1, 1, 1, 1], dtype = "float32", holds = [{{ meaning = "presence", count = 1 }}] }},
]

{passive}
[embedder]
file = "mobilefacenet_fp16.tflite"
{mobilefacenet_fp16}
licence = "Apache-2.0"
match = [{{ fmr_ppm = 1000, score = 0.4 }}]
input = {{ shape = [1, 112, 112, 3], dtype = "float32", colour = "rgb", scale = {scale}, offset = {offset} }}
outputs = [{{ tensor = 0, shape = [1, 128], dtype = "float32", holds = [{{ meaning = "embedding", count = 128 }}] }}]
"""
_FILES = ("blazeface_short_range", "mp_face_landmark", "mobilefacenet_fp16")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


def write_foreign_pack(folder: Path, teachers: Path) -> Path:
    """The public models of `teachers`, and our own passive one, as a pack in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: (teachers / f"{name}.tflite").read_bytes() for name in _FILES}
    told = {}
    for name, content in contents.items():
        (folder / f"{name}.tflite").write_bytes(content)
        told[name] = f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nsize_bytes = {len(content)}'
    (folder / "antispoof.tflite").write_bytes((DEFAULT_PACK / "antispoof.tflite").read_bytes())
    own = (DEFAULT_PACK / "pack.toml").read_text(encoding="utf-8")
    text = _MANIFEST.format(
        **told,
        passive=own[own.index("[antispoof]\n") : own.index("[embedder]\n")],
        s=1 / 127.5,
        u=1 / 255,
        points=list(MESH_468),
        scale=[1 / 255 / std for std in _STD],
        offset=[-mean / std for mean, std in zip(_MEAN, _STD, strict=True)],
    )
    (folder / "pack.toml").write_text(text, encoding="utf-8")
    return folder
