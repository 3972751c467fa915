"""A pack that does not fit its manifest is refused with PackError, which says what is wrong and what to do."""

import hashlib
import os

import numpy as np
import pytest

from edge.cli import main
from edge.errors import PackError
from edge.vision.pack import Pack, Role
from edge.vision.pipeline import Pipeline, Stages
from edge.vision.runtime import check_tensors
from tests.tiny_models import MANIFEST, Output, build, models, write_pack


def refusal(folder):
    """The error that a terminal meets when it opens the pack."""
    with pytest.raises(PackError) as caught:
        Pipeline(Pack.load(folder))
    assert caught.value.todo, "an operator's error says what to do"
    return caught.value.message


def change(folder, old, new):
    path = folder / "pack.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return folder


def change_last(folder, old, new):
    path = folder / "pack.toml"
    before, found, after = path.read_text().rpartition(old)
    assert found
    path.write_text(before + new + after)
    return folder


@pytest.fixture
def pack(tmp_path):
    return write_pack(tmp_path / "pack")


def test_an_unharmed_pack_opens(pack):
    Pipeline(Pack.load(pack)).close()


@pytest.mark.parametrize("role", [r.value for r in Role])
def test_a_truncated_model_is_refused_before_it_is_parsed(pack, role):
    path = pack / f"{role}.tflite"
    path.write_bytes(path.read_bytes()[:-7])
    assert "truncated" in refusal(pack)


@pytest.mark.parametrize("role", [r.value for r in Role])
def test_one_altered_byte_is_refused(pack, role):
    content = bytearray((pack / f"{role}.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (pack / f"{role}.tflite").write_bytes(content)
    assert "altered" in refusal(pack)


def test_a_model_that_is_longer_than_its_manifest_says_is_refused(pack):
    with (pack / "detector.tflite").open("ab") as file:
        file.write(b"\0")
    assert "longer" in refusal(pack)


def test_an_empty_model_file_is_refused(pack):
    (pack / "embedder.tflite").write_bytes(b"")
    assert "truncated" in refusal(pack)


def test_a_missing_model_file_is_refused(pack):
    (pack / "antispoof.tflite").unlink()
    assert "antispoof.tflite" in refusal(pack)


def test_a_missing_manifest_is_refused(tmp_path):
    assert "pack.toml" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"format = ", b"format = 1\n[detector]\n", b"a" * 70_000])
def test_a_manifest_that_is_no_manifest_is_refused(pack, content):
    (pack / "pack.toml").write_bytes(content)
    assert "pack.toml" in refusal(pack)


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 30_000, b"a = " + b"{a=" * 20_000, b"size_bytes = " + b"1" * 5_000],
    ids=["lists", "tables", "digits"],
)
def test_a_manifest_that_exhausts_its_reader_is_refused(pack, capsys, content):
    (pack / "pack.toml").write_bytes(content)
    assert "pack.toml" in refusal(pack)
    assert main(["models", "verify", str(pack)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bytes_that_are_no_model_are_refused_though_their_hash_is_right(tmp_path):
    assert "no model" in refusal(write_pack(tmp_path / "p", embedder=b"these bytes are no model at all " * 8))


@pytest.mark.parametrize("seed", range(20))
def test_a_broken_model_with_a_right_hash_never_gets_past_opening(tmp_path, seed):
    # The pack's maker signed for it; still the runtime's own verifier, or our look at the tensors, must speak first.
    rng = np.random.default_rng(seed)
    content = bytearray(models()["embedder"][: rng.integers(8, 900)])
    folder = write_pack(tmp_path / "p", embedder=bytes(content))
    assert refusal(folder)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("shape = [1, 64, 96, 3]", "shape = [1, 96, 64, 3]", "input"),
        ("shape = [1, 6, 15]", "shape = [1, 6, 16]", "output 0"),
        ("shape = [1, 276]", "shape = [1, 277]", "output 0"),
        ("tensor = 1,", "tensor = 3,", "output 3"),
        ('dtype = "float32", colour', 'dtype = "int8", colour', "input"),
        ('tensor = 0, shape = [1, 8], dtype = "float32"', 'tensor = 0, shape = [1, 8], dtype = "int8"', "output 0"),
    ],
)
def test_a_manifest_that_lies_about_a_tensor_is_refused(pack, old, new, word):
    assert word in refusal(change(pack, old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('licence = "Apache-2.0"\n\n[detector]', "\n[detector]"),
        ('licence = "Apache-2.0"\ngrids', "grids"),
        ('licence = "Apache-2.0"\nunit', 'licence = ""\nunit'),
        ('name = "tiny"', 'name = "tiny"\ncomment = "unknown keys hide typing errors"'),
        ("score_min = 0.5", "score_min = 1.5"),
        ("keypoints = [0, 1, 2, 3, 4]", "keypoints = [0, 1, 2, 3, 5]"),
        ("grids = [{ stride_px = 32 }]", "grids = [{ stride_px = 16 }]"),
        ('{ meaning = "box", first = 1, count = 4 }', '{ meaning = "box", first = 1, count = 3 }'),
        ("first = 5, count = 10", "first = 6, count = 10"),
        ('presence = "logit"', 'presence = "softmax"'),
        ('activation = "logit"', 'activation = "softmax"'),
        ("format = 1", "format = 2"),
        ("{ fmr_ppm = 1000, score = 0.4 }", "{ fmr_ppm = 1000, score = 0.2 }"),
        ("{ fmr_ppm = 100, score = 0.5 }", "{ fmr_ppm = 5000, score = 0.5 }"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(pack, old, new):
    assert "pack.toml" in refusal(change(pack, old, new))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0", "0.0", "-0.0"])
def test_a_picture_that_would_become_nothing_is_refused(pack, number):
    assert "embedder.input.scale.1" in refusal(change_last(pack, "scale = [1, 1, 1]", f"scale = [1, {number}, 1]"))


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_an_offset_that_is_no_number_is_refused(pack, number):
    assert "embedder.input.offset.2" in refusal(change_last(pack, "offset = [0, 0, 0]", f"offset = [0, 0, {number}]"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "tiny"', 'name = "Tiny_1"', "small letters"),
        ('version = "1.0"', 'version = "1.0-rc1"', "such as 1.0"),
        ('licence = "Apache-2.0"', 'licence = "ours, all rights reserved"', "SPDX expression, or LicenseRef-NAME"),
        ('file = "detector.tflite"', 'file = "models/detector.tflite"', "no path"),
        ('sha256 = "', 'sha256 = "G', "hexadecimal"),
    ],
)
def test_a_form_that_does_not_fit_is_told_in_words(pack, old, new, words):
    told = refusal(change(pack, old, new))
    assert words in told
    assert "^" not in told
    assert "Value error" not in told


def test_a_refusal_says_how_many_more_faults_there_are(pack, capsys):
    path = pack / "pack.toml"
    path.write_text(path.read_text().replace("licence =", "license ="))
    assert refusal(pack).endswith("; and 5 more")
    assert main(["models", "verify", str(pack)]) == 2
    assert capsys.readouterr().err.count("icen") == 10, "verify names them all"


@pytest.mark.parametrize("change_of", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: bytes([c[0] ^ 1]) + c[1:]])
def test_who_changed_a_model_is_told_to_seal_the_pack(pack, capsys, change_of):
    for name in ("embedder", "antispoof"):
        path = pack / f"{name}.tflite"
        path.write_bytes(change_of(path.read_bytes()))
    assert main(["models", "verify", str(pack)]) == 2
    assert f"if you changed it yourself, run `python -m models.training.seal {pack}`" in capsys.readouterr().err


def test_who_changed_a_manifest_is_told_to_mend_it(pack, capsys):
    change(pack, 'name = "tiny"', 'name = "tiny')
    assert main(["models", "verify", str(pack)]) == 2
    assert "mend the manifest" in capsys.readouterr().err


EMBEDDING = '[{ meaning = "embedding", count = 8 }]'
BONA_FIDE = '[{ meaning = "bona_fide", count = 1 }]'


@pytest.mark.parametrize(
    ("old", "new", "meaning", "todo"),
    [
        (EMBEDDING, f'{EMBEDDING[:-1]}, {{ meaning = "embedding", count = 4 }}]', "embedding", "name it once"),
        (
            EMBEDDING,
            '[{ meaning = "embedding", count = 4 }, { meaning = "embedding", first = 4, count = 4 }]',
            "embedding",
            "name it once",
        ),
        (BONA_FIDE, f"{BONA_FIDE[:-1]}, {BONA_FIDE[1:]}", "bona_fide", "name it once"),
        (EMBEDDING, f'{EMBEDDING[:-1]}, {{ meaning = "score", count = 1 }}]', "score", "leave it out"),
        (EMBEDDING, '[{ meaning = "openness", count = 3 }]', "openness", "leave it out"),
        (
            f"holds = {EMBEDDING} }}",
            f'holds = {EMBEDDING} }}, {{ tensor = 1, shape = [1, 8], dtype = "float32", holds = {EMBEDDING} }}',
            "embedding",
            "keep the one that is meant",
        ),
        ("shape = [1, 8]", "shape = [1, 2, 8]", "2 rows", "reshape it"),
    ],
)
def test_an_answer_of_which_only_a_part_would_be_used_is_refused(pack, capsys, old, new, meaning, todo):
    change(pack, old, new)
    told = refusal(pack)
    assert meaning in told
    assert todo in told
    assert main(["models", "verify", str(pack)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def split_detector(second_keypoints):
    """A detector with a tensor for each of two grids: four cells, and two more."""
    part = """[[detector.outputs]]
tensor = {}
shape = [1, {}, 15]
dtype = "float32"
holds = [
  {{{{ meaning = "score", count = 1 }}}},
  {{{{ meaning = "box", first = 1, count = 4 }}}},
  {{{{ meaning = "keypoints", first = 5, count = {} }}}},
]
"""
    start, end = MANIFEST.index("[[detector.outputs]]"), MANIFEST.index("[landmarks]")
    grids = "grids = [{{ stride_px = 32 }}, {{ stride_px = 64 }}]"
    text = MANIFEST[:start] + part.format(0, 6, 10) + part.format(1, 1, second_keypoints) + MANIFEST[end:]
    return text.replace("grids = [{{ stride_px = 32 }}]", grids)


def test_a_detector_may_answer_in_a_tensor_for_each_grid_of_equal_width(tmp_path):
    detector = build(64, 96, [Output((1, 6, 15)), Output((1, 1, 15))])
    Pipeline(Pack.load(write_pack(tmp_path / "even", split_detector(10), detector=detector))).close()
    folder = write_pack(tmp_path / "odd", split_detector(8), detector=detector)
    assert "`keypoints` has 8, 10 columns" in refusal(folder)
    assert main(["models", "verify", str(folder)]) == 2


@pytest.mark.parametrize(
    "name", ["../detector.tflite", "/etc/detector.tflite", "sub/detector.tflite", "..", "a\\n.tflite"]
)
def test_a_path_that_leaves_the_folder_is_refused(pack, name):
    (pack.parent / "detector.tflite").write_bytes((pack / "detector.tflite").read_bytes())
    assert "detector.file" in refusal(change(pack, 'file = "detector.tflite"', f'file = "{name}"'))


def test_a_link_in_the_folder_is_refused(pack):
    elsewhere = pack.parent / "elsewhere.tflite"
    (pack / "detector.tflite").rename(elsewhere)
    (pack / "detector.tflite").symlink_to(elsewhere)
    assert "detector.tflite" in refusal(pack)


def test_a_pipe_in_place_of_a_model_does_not_hang(pack):
    (pack / "detector.tflite").unlink()
    os.mkfifo(pack / "detector.tflite")
    assert "detector.tflite" in refusal(pack)


def test_an_int8_tensor_without_a_scale_is_refused(pack):
    change(
        pack,
        'dtype = "float32", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }\noutputs = [{ tensor = 0, shape = [1, 8], dtype = "float32"',
        'dtype = "int8", colour = "rgb", scale = [1, 1, 1], offset = [0, 0, 0] }\noutputs = [{ tensor = 0, shape = [1, 8], dtype = "int8"',
    )
    spec = Pack.load(pack).manifest.embedder
    detail = {"shape": [1, 32, 32, 3], "dtype": np.int8, "quantization": (0.0, 0)}
    with pytest.raises(PackError, match="without a scale"):
        check_tensors(spec, [detail], [])


def test_an_embedder_that_answers_nothing_gives_no_template(tmp_path):
    from edge.vision.crops import ARCFACE_TEMPLATE
    from edge.vision.picture import Levels

    folder = write_pack(tmp_path / "p", embedder=build(32, 32, [Output((1, 8))]))
    levels = Levels()
    levels.show(np.zeros((112, 112, 3), np.uint8))
    with pytest.raises(PackError, match="no template"):
        Stages.open(Pack.load(folder)).embedder.template(levels, np.array(ARCFACE_TEMPLATE))


def test_a_threshold_that_the_pack_lacks_is_answered_by_the_next_stricter_one(pack):
    loaded = Pack.load(pack)
    assert loaded.match_threshold(10_000) == 0.3
    assert loaded.match_threshold(9_999) == 0.4
    assert loaded.match_threshold(1_000) == 0.4
    assert loaded.match_threshold(999) == 0.5
    assert loaded.match_threshold(100) == 0.5
    with pytest.raises(PackError, match="99 in a million"):
        loaded.match_threshold(99)


def test_the_digest_is_the_manifests_hash_and_moves_with_every_model(tmp_path):
    first = write_pack(tmp_path / "a")
    second = write_pack(tmp_path / "b", embedder=build(32, 32, [Output((1, 8), bias=np.ones(8))]))
    assert Pack.load(first).digest == hashlib.sha256((first / "pack.toml").read_bytes()).digest()
    assert Pack.load(first).digest != Pack.load(second).digest


def test_the_command_names_the_fault_and_what_to_do(pack, capsys):
    assert main(["models", "verify", str(pack)]) == 0
    assert "embedder.tflite" in capsys.readouterr().out
    (pack / "embedder.tflite").write_bytes(b"x")
    assert main(["models", "verify", str(pack)]) == 2
    told = capsys.readouterr().err
    assert "embedder.tflite" in told
    assert "what to do" in told


def test_sealing_makes_a_pack_whole_again_and_changes_nothing_else(pack):
    from models.training.seal import seal

    content = build(32, 32, [Output((1, 8), bias=np.ones(8))])
    (pack / "embedder.tflite").write_bytes(content)
    before = (pack / "pack.toml").read_text().splitlines()
    assert "embedder.tflite" in refusal(pack)
    seal(pack)
    Pipeline(Pack.load(pack)).close()
    after = (pack / "pack.toml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert all(line.startswith(("sha256", "size_bytes")) for line in changed)
    assert f'sha256 = "{hashlib.sha256(content).hexdigest()}"' in changed
