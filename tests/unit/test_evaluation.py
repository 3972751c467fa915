"""The verification figures against answers known by hand; the product's models are not run here."""

import csv

import cv2
import numpy as np
import pytest

from edge.errors import CaptureError, CaptureFault, VouchError
from edge.session.comparison import Template
from models.evaluation import conditions, det, metrics, study
from models.evaluation.__main__ import text
from models.evaluation.conditions import Condition
from models.evaluation.study import Captures, Pair


def flags(*values):
    return np.array(values, dtype=bool)


def test_scores_that_part_genuine_from_impostor_are_all_right():
    threshold, accuracy = metrics.best_threshold(np.array([0.9, 0.7, 0.3, 0.1]), flags(1, 1, 0, 0))
    assert accuracy == 1.0
    assert threshold == pytest.approx(0.5)


def test_one_impostor_above_all_genuine_costs_one_comparison():
    assert metrics.best_threshold(np.array([0.9, 0.7, 0.5, 0.1]), flags(0, 1, 1, 0))[1] == 0.75


def test_a_threshold_cannot_part_equal_scores():
    assert metrics.best_threshold(np.array([0.5, 0.5, 0.5, 0.5]), flags(1, 1, 1, 0))[1] == 0.75


def test_where_only_impostors_score_nothing_is_accepted():
    threshold, accuracy = metrics.best_threshold(np.array([0.5, 0.4]), flags(0, 0))
    assert accuracy == 1.0
    assert threshold == float("inf")


def test_a_failed_capture_counts_as_a_non_match():
    scores = np.array([float("-inf"), 0.8, 0.1, float("-inf")])
    threshold, accuracy = metrics.best_threshold(scores, flags(1, 1, 0, 0))
    assert accuracy == 0.75
    assert 0.1 < threshold < 0.8


def test_each_fold_is_judged_at_the_threshold_of_the_others():
    scores = np.array([0.9, 0.1, 0.6, 0.4])
    same = flags(1, 0, 1, 0)
    assert metrics.fold_accuracy(scores, same, np.array([1, 1, 2, 2])) == 1.0
    # Fold 2 lies wholly below what fold 1 taught (0.5), so its genuine pair is lost; fold 1 is right at 0.25.
    assert metrics.fold_accuracy(np.array([0.9, 0.1, 0.4, 0.1]), same, np.array([1, 1, 2, 2])) == 0.75


def test_weights_take_a_comparison_as_often_as_they_say():
    scores, same = np.array([0.9, 0.7, 0.5, 0.1]), flags(0, 1, 1, 0)
    twice = metrics.best_threshold(np.repeat(scores, [3, 1, 1, 2]), np.repeat(same, [3, 1, 1, 2]))
    assert metrics.best_threshold(scores, same, np.array([3.0, 1, 1, 2])) == pytest.approx(twice)


@pytest.mark.parametrize(
    ("scores", "same", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 1.0),
        ([0.9, 0.6, 0.7, 0.1], [1, 1, 0, 0], 0.5),
        ([0.9, 0.8, 0.7, 0.3, 0.75, 0.2, 0.1, 0.0], [1, 1, 1, 1, 0, 0, 0, 0], 0.25),
    ],
)
def test_equal_error_rate_of_known_lists(scores, same, expected):
    assert metrics.equal_error_rate(np.array(scores), flags(*same)) == pytest.approx(expected)


def test_the_threshold_lets_exactly_the_allowed_share_of_impostors_match():
    impostors = np.linspace(0, 0.999, 1000)
    threshold = metrics.threshold_at(impostors, 0.01)
    assert metrics.match_rate(impostors, threshold) == pytest.approx(0.01)
    assert metrics.match_rate(np.array([0.5, 0.995]), threshold) == 0.5


def test_a_rate_that_too_few_impostors_can_show_accepts_none_of_them():
    impostors = np.array([0.1, 0.2, 0.3])
    assert metrics.match_rate(impostors, metrics.threshold_at(impostors, 1e-4)) == 0.0


def test_the_highest_impostors_and_their_total_give_the_threshold_of_all():
    impostors = np.random.default_rng(1).normal(size=5000)
    highest = np.sort(impostors)[-200:]
    assert metrics.threshold_at(highest, 0.01, total=5000.0) == metrics.threshold_at(impostors, 0.01)


def test_the_error_curve_runs_from_nothing_accepted_to_everything():
    fmr, fnmr = metrics.error_curve(np.array([0.9, 0.5, 0.4]), flags(1, 0, 1))
    assert list(zip(fmr, fnmr, strict=True)) == [(0, 1), (0, 0.5), (1, 0.5), (1, 0)]


def test_the_subject_is_the_file_name_without_its_number():
    assert metrics.subject_of("some/where/Ada_Mary_Lovelace_0012.jpg") == "Ada_Mary_Lovelace"


def test_the_bootstrap_interval_holds_the_mean_and_narrows_with_more_subjects():
    rng = np.random.default_rng(3)

    def width(subjects):
        right = rng.random(subjects) < 0.9
        low, high = metrics.bootstrap(
            lambda drawn: float(drawn @ right / drawn.sum()), subjects, rounds=200, rng=np.random.default_rng(1)
        )
        assert low <= right.mean() <= high
        return high - low

    assert width(2000) < width(50) / 3


def test_a_pair_within_a_subject_is_drawn_with_it_and_an_impostor_pair_with_both():
    weights = metrics.pair_weights(np.array([2.0, 3.0, 0.0]), np.array([0, 0, 1]), np.array([0, 1, 2]))
    assert weights.tolist() == [2, 6, 0]


# ---- pictures


def picture(seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    return cv2.resize(noise, (150, 150), interpolation=cv2.INTER_CUBIC)


def test_a_document_portrait_is_small_and_fits_into_its_chip():
    portrait = conditions.apply(Condition.PORTRAIT, picture())
    assert portrait.shape == (126, 102, 3)
    assert np.abs(portrait.astype(int) - cv2.GaussianBlur(portrait, (0, 0), 1)).mean() > 0  # a picture, not one tone


def test_grey_has_no_colour_and_blur_has_less_detail():
    grey = conditions.apply(Condition.GREY, picture())
    assert (grey[..., 0] == grey[..., 2]).all()
    blurred = conditions.apply(Condition.BLUR, picture())
    assert cv2.Laplacian(blurred, cv2.CV_64F).var() < cv2.Laplacian(picture(), cv2.CV_64F).var() / 2


def test_plain_pictures_stay_as_they_are():
    assert (conditions.apply(Condition.PLAIN, picture()) == picture()).all()


def test_the_det_plot_is_written_as_a_picture(tmp_path):
    det.draw(tmp_path / "det.png", np.array([0.001, 0.01, 0.1]), np.array([0.2, 0.05, 0.01]), "three points")
    drawn = cv2.imread(str(tmp_path / "det.png"))
    assert drawn.shape == (640, 640, 3)
    assert (drawn != 255).any()


# ---- a whole study, with an encoder that knows people by the colour of their picture


def encode(image_bgr):
    colour = image_bgr.reshape(-1, 3).mean(0).astype(np.float32) - 100
    if np.abs(colour).max() < 5:
        raise CaptureError(CaptureFault.NO_FACE, "grey: nobody")
    return Template(colour / np.linalg.norm(colour), "colours")


@pytest.fixture
def album(tmp_path):
    """Three people whose pictures have three colours, and one picture that shows nobody."""
    colours = {"Red_A": (30, 60, 240), "Green_B": (30, 230, 70), "Blue_C": (240, 40, 50)}
    for name, colour in colours.items():
        for index in (1, 2):
            image = np.full((40, 40, 3), colour, np.uint8)
            cv2.imwrite(str(tmp_path / f"{name}_{index:04d}.png"), image + np.uint8(index))
    cv2.imwrite(str(tmp_path / "Grey_D_0001.png"), np.full((40, 40, 3), 100, np.uint8))
    rows = [
        (1, "Red_A_0001.png", "Red_A_0002.png", 1),
        (1, "Red_A_0001.png", "Blue_C_0001.png", 0),
        (2, "Green_B_0001.png", "Green_B_0002.png", 1),
        (2, "Green_B_0002.png", "Red_A_0001.png", 0),
        (2, "Blue_C_0002.png", "Grey_D_0001.png", 0),
    ]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("fold", "a", "b", "same"), *rows])
    return tmp_path


def test_a_study_counts_failures_and_tells_people_apart(album):
    pairs = study.read_pairs(album / "pairs.csv")
    captures = study.capture(pairs, album, encode, Condition.PLAIN)
    found = study.figures(pairs, captures, rounds=20)
    assert (found.pairs, found.subjects, found.captures, found.failures_to_acquire) == (5, 4, 7, 1)
    assert found.accuracy_best_threshold == 1.0
    assert found.accuracy.value == 1.0
    assert found.eer.value == 0.0
    # Six pictures of three people, each comparison once: 6 * 4 / 2.
    assert found.impostors == 12
    assert [a.tar.value for a in found.at_far] == [1.0, 1.0, 1.0]
    assert "1 of 7 captures" in text(found)


def test_with_a_single_fold_there_is_no_accuracy_by_folds(album):
    pairs = [Pair(1, p.a, p.b, p.same) for p in study.read_pairs(album / "pairs.csv")]
    found = study.figures(pairs, study.capture(pairs, album, encode, Condition.PLAIN), rounds=5)
    assert found.accuracy is None
    assert "one fold" in text(found)


def test_a_condition_is_laid_on_the_reference_alone(album):
    pairs = [p for p in study.read_pairs(album / "pairs.csv") if p.same]
    captures = study.capture(pairs, album, encode, Condition.GREY)
    assert all(t is not None for t in captures.probes.values())
    assert captures.references.keys() == {"Red_A_0002.png", "Green_B_0002.png"}
    unlike = captures.references["Red_A_0002.png"].vector
    assert np.ptp(unlike) < 0.01  # grey: all three channels are one


def test_a_pair_with_a_failed_capture_scores_below_every_threshold():
    one = Template(np.array([1.0, 0.0], np.float32), "m")
    scores, same = study.pair_scores([Pair(1, "x", "y", True)], {"x": one}, {"y": None})
    assert scores[0] == float("-inf")
    assert same[0]


@pytest.mark.parametrize(
    "content", ["", "fold,a,b,same\n", "a,b\nx,y\n", "fold,a,b,same\n1,x,y,maybe\n", "fold,a,b,same\n1,x,y,1\n"]
)
def test_a_protocol_file_of_another_form_is_refused_with_advice(tmp_path, content):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(VouchError) as caught:
        study.read_pairs(tmp_path / "pairs.csv")
    assert "fold,a,b,same" in caught.value.diagnostics()


def test_a_picture_that_is_missing_stops_the_study(album):
    with pytest.raises(VouchError, match="cannot be read"):
        study.capture([Pair(1, "nobody_0001.png", "nobody_0002.png", True)], album, encode, Condition.PLAIN)


def test_no_faces_at_all_is_an_error_and_not_a_figure():
    with pytest.raises(VouchError, match="no face"):
        study.figures([Pair(1, "A_1.png", "B_1.png", False)], Captures({"A_1.png": None, "B_1.png": None}, {}, 1.0))
