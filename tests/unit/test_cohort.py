"""How alike a face is to faces at large, from the model's tensor to the comparison score."""

from dataclasses import replace

import numpy as np
import pytest

from edge.errors import PackError
from edge.session.comparison import Template, compare, mean_template
from edge.vision.crops import ARCFACE_TEMPLATE
from edge.vision.embedder import Embedder
from edge.vision.pack import Pack, Role
from edge.vision.picture import Levels
from edge.vision.runtime import Model, litert
from models.evaluation import groups
from models.evaluation.scores import all_scores
from models.training import cohort
from tests.tiny_models import MANIFEST, Output, build, write_pack

RNG = np.random.default_rng(3)
FACES = RNG.normal(size=(5, 8))
FACES = (FACES / np.linalg.norm(FACES, axis=1, keepdims=True)).astype(np.float32)
ONE_OUTPUT = 'holds = [{{ meaning = "embedding", count = 8 }}] }}]'
WITH_COHORT = MANIFEST.replace(
    ONE_OUTPUT,
    'holds = [{{ meaning = "embedding", count = 8 }}] }}, '
    '{{ tensor = 1, shape = [1, 5], dtype = "float32", holds = [{{ meaning = "cohort", count = 5 }}] }}]',
).replace("match = [{{ fmr_ppm = 10000", "cohort_nearest = 2\nmatch = [{{ fmr_ppm = 10000")


def embedder_bytes(int8: bool = False) -> bytes:
    weights = np.random.default_rng(1).normal(0, 1, (8, 3))
    return build(32, 32, [Output((1, 8), weights, np.arange(8) / 4)], int8=(0.05, 3) if int8 else None)


def template_of(pack: Pack) -> Template:
    spec = pack.manifest.embedder
    picture = np.random.default_rng(2).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    levels = Levels()
    levels.show(picture)
    return Embedder(spec, Model(spec, pack.contents[Role.EMBEDDER])).template(levels, np.array(ARCFACE_TEMPLATE))


def answers_of(content: bytes) -> list[np.ndarray]:
    interpreter = litert().Interpreter(model_content=content)
    interpreter.allocate_tensors()
    told = interpreter.get_input_details()[0]
    picture = np.random.default_rng(4).integers(0, 4, told["shape"])
    interpreter.set_tensor(told["index"], picture.astype(told["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def faces_around(centre, count, spread):
    rows = centre + spread * RNG.normal(size=(count, len(centre)))
    return [Template((row / np.linalg.norm(row)).astype(np.float32), "m") for row in rows]


def with_cohort(template, faces, nearest):
    return replace(template, cohort=float(np.sort(faces @ template.vector)[-nearest:].mean()))


def test_a_template_says_how_alike_its_face_is_to_the_nearest_of_the_cohort(tmp_path):
    plain = template_of(Pack.load(write_pack(tmp_path / "plain", embedder=embedder_bytes())))
    content = cohort.with_cohort(embedder_bytes(), FACES)
    found = template_of(Pack.load(write_pack(tmp_path / "cohort", WITH_COHORT, embedder=content)))
    assert np.array_equal(found.vector, plain.vector)
    assert plain.cohort == 0
    assert found.cohort == pytest.approx(np.sort(FACES @ found.vector)[-2:].mean(), abs=1e-5)


@pytest.mark.parametrize("int8", [False, True])
def test_a_cohort_is_put_behind_a_file_and_replaced_and_the_answer_stays(int8):
    before = embedder_bytes(int8)
    (answer,) = answers_of(before)
    once = cohort.with_cohort(before, FACES)
    again = cohort.with_cohort(once, FACES[::-1])
    assert len(again) == len(once)
    for content, faces in ((once, FACES), (again, FACES[::-1])):
        same, likeness = answers_of(content)
        assert np.array_equal(same, answer)
        real = answer[0] if not int8 else (answer[0].astype(np.float32) - 3) * 0.05
        assert likeness[0] == pytest.approx(faces @ real, abs=1e-5)


def test_a_cohort_of_another_size_is_not_put_in_the_place_of_one():
    once = cohort.with_cohort(embedder_bytes(), FACES)
    with pytest.raises(ValueError, match="export the embedder anew"):
        cohort.with_cohort(once, FACES[:3])
    with pytest.raises(ValueError, match="answers in"):
        cohort.with_cohort(embedder_bytes(), FACES[:, :4])


def test_the_middles_of_two_crowds_are_their_directions():
    ends = np.eye(8)[:2]
    vectors = np.stack([t.vector for end in ends for t in faces_around(end, 60, 0.1)])
    found = cohort.centres(vectors, 2, 7)
    assert np.sort(np.abs(found @ ends.T).max(axis=1)) == pytest.approx([1, 1], abs=0.01)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cohort_nearest = 2\n", ""),
        ("cohort_nearest = 2\n", "cohort_nearest = 6\n"),
        ("cohort_nearest = 2\n", "cohort_nearest = 0\n"),
        ('{{ meaning = "cohort", count = 5 }}', '{{ meaning = "score", count = 5 }}'),
    ],
)
def test_a_cohort_that_does_not_fit_is_refused(tmp_path, old, new):
    assert old in WITH_COHORT
    folder = write_pack(tmp_path, WITH_COHORT.replace(old, new), embedder=cohort.with_cohort(embedder_bytes(), FACES))
    with pytest.raises(PackError, match="embedder"):
        Pack.load(folder)


def test_a_number_of_nearest_without_a_cohort_is_refused(tmp_path):
    manifest = MANIFEST.replace("match = [{{ fmr_ppm = 10000", "cohort_nearest = 2\nmatch = [{{ fmr_ppm = 10000")
    with pytest.raises(PackError, match="cohort_nearest is 2"):
        Pack.load(write_pack(tmp_path, manifest))


def test_a_cohort_that_answers_no_numbers_gives_no_template(tmp_path):
    content = cohort.with_cohort(embedder_bytes(), np.full((5, 8), np.nan, np.float32))
    with pytest.raises(PackError, match="gives no template"):
        template_of(Pack.load(write_pack(tmp_path, WITH_COHORT, embedder=content)))


def test_strangers_of_a_crowd_score_as_strangers_at_large_do():
    crowded = faces_around(np.eye(64)[0], 60, 0.12)  # they have much in common with each other
    at_large = faces_around(np.zeros(64), 60, 1.0)
    middles = cohort.centres(np.stack([t.vector for t in (*crowded, *at_large)]), 12, 7)

    def mean_score(people):
        return np.mean([compare(a, b) for k, a in enumerate(people) for b in people[:k]])

    bare = mean_score(crowded) - mean_score(at_large)
    evened = mean_score([with_cohort(t, middles, 1) for t in crowded]) - mean_score(
        [with_cohort(t, middles, 1) for t in at_large]
    )
    assert bare > 0.3
    assert abs(evened) < bare / 2


def test_the_mean_of_several_templates_is_as_alike_to_the_cohort_as_its_own_direction():
    person = RNG.normal(size=8)
    several = [with_cohort(t, FACES, 1) for t in faces_around(person / np.linalg.norm(person), 6, 0.1)]
    mean = mean_template(tuple(several))
    assert mean.cohort == pytest.approx(with_cohort(mean, FACES, 1).cohort, abs=1e-3)


def test_all_scores_are_what_compare_says_of_each_pair():
    people = [with_cohort(t, FACES, 2) for t in faces_around(np.zeros(8), 7, 1.0)]
    scores = all_scores(people[:3], people[3:])
    assert scores == pytest.approx(np.array([[compare(a, b) for b in people[3:]] for a in people[:3]]), abs=1e-6)


def test_pictures_of_one_person_are_left_out_by_their_likeness_and_not_by_the_score():
    one, other = faces_around(np.eye(8)[0], 1, 0.01)[0], faces_around(np.eye(8)[1], 1, 0.01)[0]
    people = [replace(t, cohort=0.6) for t in (one, one, other)]  # the two score 0.4
    rows = [groups.Labelled(f"{k}.jpg", 30, "0", "0") for k in range(3)]
    found = groups.figures(rows, people, 0.2)
    assert found.left_out == 1
    assert found.cells[0].comparisons == 2
