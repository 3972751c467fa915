"""The verification figures against answers known by hand; the product's models are not run here."""

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.config import DEFAULT_PACK
from edge.errors import CaptureError, CaptureFault, VouchError
from edge.session.comparison import Template
from edge.updates import selftest as update_pictures
from edge.vision.pack import MatchThreshold, parse_manifest
from models.evaluation import __main__ as command
from models.evaluation import attacks, conditions, det, exact, groups, metrics, report, study, thresholds
from models.evaluation.__main__ import text
from models.evaluation.conditions import Condition
from models.evaluation.metrics import Estimate
from models.evaluation.study import AtFar, Captures, Pair
from models.training import seal


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


def test_where_all_that_was_kept_may_match_the_threshold_is_the_lowest_kept():
    assert metrics.threshold_at(np.array([0.9, 0.8]), 0.01, np.array([1.0, 1.0]), total=1000.0) == 0.8
    assert metrics.threshold_at(np.array([0.9, 0.8]), 0.01, np.array([0.0, 0.0]), total=1000.0) == 0.8
    assert metrics.threshold_at(np.array([0.9, 0.8]), 1.0) == -1.0  # nothing left out, all may match


def test_a_draw_without_comparisons_of_a_kind_gives_no_figure():
    assert np.isnan(metrics.match_rate(np.array([0.5]), 0.1, np.array([0.0])))
    assert np.isnan(metrics.equal_error_rate(np.array([0.9, 0.1]), flags(1, 0), np.array([1.0, 0.0])))
    assert np.isnan(metrics.equal_error_rate(np.array([0.9, 0.1]), flags(1, 0), np.array([0.0, 1.0])))


def test_the_error_curve_runs_from_nothing_accepted_to_everything():
    fmr, fnmr = metrics.error_curve(np.array([0.9, 0.5, 0.4]), flags(1, 0, 1))
    assert list(zip(fmr, fnmr, strict=True)) == [(0, 1), (0, 0.5), (1, 0.5), (1, 0)]


def test_the_subject_is_the_file_name_without_its_number():
    assert metrics.subject_of("Ada_Mary_Lovelace_0012.jpg") == "Ada_Mary_Lovelace"


def test_two_folders_hold_two_people_even_where_their_files_have_one_name():
    assert metrics.subject_of("p1/selfie_1.jpg") == metrics.subject_of("p1/selfie_2.jpg")
    assert metrics.subject_of("p1/selfie_1.jpg") != metrics.subject_of("p2/selfie_1.jpg")


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


def test_a_document_portrait_takes_the_kilobyte_that_its_chip_has_and_no_more():
    coded = conditions.coded_portrait(picture()).tobytes()
    assert 700 < len(coded) - coded.index(b"\xff\xda") <= 1024


def test_grey_has_no_colour_and_blur_has_less_detail():
    grey = conditions.apply(Condition.GREY, picture())
    assert (grey[..., 0] == grey[..., 2]).all()
    blurred = conditions.apply(Condition.BLUR, picture())
    assert cv2.Laplacian(blurred, cv2.CV_64F).var() < cv2.Laplacian(picture(), cv2.CV_64F).var() / 2


def test_plain_pictures_stay_as_they_are():
    assert (conditions.apply(Condition.PLAIN, picture()) == picture()).all()


def test_the_det_curve_falls_from_few_false_matches_to_few_false_non_matches(tmp_path):
    det.draw(tmp_path / "det.png", np.array([0.001, 0.01, 0.1]), np.array([0.2, 0.05, 0.01]), "three points")
    drawn = cv2.imread(str(tmp_path / "det.png"))
    assert drawn.shape == (640, 640, 3)
    rows, columns = np.nonzero((drawn == (160, 60, 20)).all(axis=2))
    assert np.ptp(columns) > 150
    assert np.ptp(rows) > 100
    assert np.corrcoef(rows, columns)[0, 1] > 0.9  # rows count downwards
    # Where both rates are one, the curve is on the diagonal of the square.
    det.draw(tmp_path / "det.png", np.array([0.01, 0.2]), np.array([0.01, 0.2]), "two points")
    rows, columns = np.nonzero((cv2.imread(str(tmp_path / "det.png")) == (160, 60, 20)).all(axis=2))
    assert np.abs(rows + columns - 640).max() <= 2


@pytest.mark.parametrize("name", ["det", "det.nonsense", "gone/det.png"])
def test_a_det_plot_that_cannot_be_written_is_an_error_that_the_command_tells(tmp_path, name):
    with pytest.raises(OSError, match="det"):
        det.draw(tmp_path / name, np.array([0.1]), np.array([0.1]), "a point")


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


def people(cosines):
    """Two pictures of each subject whose cosines are these [2 x subjects, 2 x subjects], and a pair of each kind."""
    values, vectors = np.linalg.eigh(cosines)
    assert values.min() > 0
    rows = (vectors * np.sqrt(values)).astype(np.float32)
    subjects = len(cosines) // 2
    names = [f"P{k // 2:03d}_{k % 2}.jpg" for k in range(2 * subjects)]
    pairs = [Pair(1, names[2 * k], names[2 * k + 1], True) for k in range(subjects)]
    pairs += [Pair(1, names[2 * k], names[(2 * k + 3) % len(names)], False) for k in range(subjects)]
    return pairs, Captures({n: Template(row, "m") for n, row in zip(names, rows, strict=True)}, {}, 1.0)


def cosines_of(subjects, genuine, impostor):
    cosines = np.full((2 * subjects, 2 * subjects), impostor)
    for k in range(subjects):
        cosines[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = genuine
    np.fill_diagonal(cosines, 1.0)
    return cosines


def test_no_draw_of_few_subjects_accepts_what_scores_below_every_impostor():
    noise = np.random.default_rng(2).uniform(-0.02, 0.02, (16, 16))
    noise = np.tril(noise, -2) + np.tril(noise, -2).T
    pairs, captures = people(cosines_of(8, 0.2, 0.5) + noise)
    found = study.figures(pairs, captures, rounds=200)
    assert found.impostors == 16 * 14 / 2
    assert [(a.tar.low, a.tar.value, a.tar.high) for a in found.at_far] == [(0, 0, 0)] * 3


def test_of_few_impostors_all_are_kept_for_the_draws():
    pairs, captures = people(cosines_of(10, 0.5, 0.1))
    number = {name: int(subject[1:]) for name, subject in study.subjects_of(pairs).items()}
    crosses = study._Crosses.of(captures.probes, captures.probes, number, least=np.inf)
    assert len(crosses.scores) == crosses.count == 20 * 18 / 2


def test_a_draw_of_one_subject_alone_has_no_impostors_and_no_say():
    pairs, captures = people(cosines_of(2, 0.2, 0.5))
    found = study.figures(pairs, captures, match=(MatchThreshold(fmr_ppm=10_000, score=0.4),), rounds=50)
    assert [(a.tar.low, a.tar.value, a.tar.high) for a in found.at_far] == [(0, 0, 0)] * 3
    assert found.at_pack[0].fmr == Estimate(1, 1, 1)


def test_each_draw_accepts_at_the_threshold_of_its_own_impostors():
    cosines = cosines_of(15, 0.5, 0.1)
    cosines[:2, 2:4] = cosines[2:4, :2] = 0.7  # the first two subjects look alike; many draws leave one of them out
    pairs, captures = people(cosines)
    tar = study.figures(pairs, captures, rounds=200).at_far[1].tar
    assert (tar.low, tar.value, tar.high) == (0, 0, 1)


def test_of_very_many_impostors_the_highest_give_the_same_threshold(monkeypatch):
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(120, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs, captures = people(0.5 * vectors @ vectors.T + 0.5 * np.eye(120))
    whole = study.figures(pairs, captures, rounds=50)
    monkeypatch.setattr(study, "_KEEP_ALL", 1000)
    assert study.figures(pairs, captures, rounds=50) == whole


def test_faces_of_one_subject_alone_are_an_error_and_not_a_figure():
    pairs = [Pair(1, "A_1.png", "A_2.png", True), Pair(1, "A_1.png", "B_1.png", False)]
    one = Template(np.array([1.0, 0.0], np.float32), "m")
    with pytest.raises(VouchError, match="one subject"):
        study.figures(pairs, Captures({"A_1.png": one, "A_2.png": one, "B_1.png": None}, {}, 1.0))


def test_under_a_condition_every_probe_meets_every_reference_of_others(album):
    pairs = [p for p in study.read_pairs(album / "pairs.csv") if p.same]
    pairs += [Pair(1, "Blue_C_0001.png", "Blue_C_0002.png", True), Pair(1, "Red_A_0001.png", "Blue_C_0002.png", False)]
    found = study.figures(pairs, study.capture(pairs, album, encode, Condition.BLUR), rounds=5)
    assert found.impostors == 3 * 2  # three probes, each with the references of the two others


SAID = "fold,a,b,same,subject_a,subject_b\n"


@pytest.mark.parametrize(
    "content",
    [
        "fold,a,b,same\n1,12-selfie.jpg,12-card.jpg,1\n1,12-selfie.jpg,13-card.jpg,0\n",
        "fold,a,b,same\n1,selfie_12.jpg,card_12.jpg,1\n1,selfie_12.jpg,selfie_13.jpg,0\n",
        "fold,a,b,same\n1,p12/1.jpg,p12/2.jpg,1\n1,p12/1.jpg,p13/1.jpg,0\n",
        "fold,a,b,same\n1,Ada_1.jpg,Ada_2.jpg,1\n1,Ada_1.jpg,Ada_3.jpg,0\n",
        SAID + "1,x.jpg,y.jpg,1,Ada,Ada\n1,x.jpg,z.jpg,0,Ada,Ada\n",
        SAID + "1,x.jpg,y.jpg,1,Ada,Eve\n1,x.jpg,z.jpg,0,Ada,Bob\n",
        SAID + "1,x.jpg,y.jpg,1,Ada,Ada\n1,x.jpg,z.jpg,0,Eve,Bob\n",
    ],
)
def test_pairs_that_contradict_whom_their_pictures_show_are_refused_with_advice(tmp_path, content):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(VouchError) as caught:
        study.read_pairs(tmp_path / "pairs.csv")
    assert "subject_a" in caught.value.todo


@pytest.mark.parametrize("row", ["1,x.jpg,y.jpg,1,Ada,", "1,x.jpg,y.jpg,1,Ada"])
def test_a_subject_that_is_not_named_is_not_guessed(tmp_path, row):
    (tmp_path / "pairs.csv").write_text(f"{SAID}{row}\n1,x.jpg,z.jpg,0,Ada,Bob\n")
    with pytest.raises(VouchError, match="line 2: no subject_b"):
        study.read_pairs(tmp_path / "pairs.csv")


def test_pictures_of_any_name_give_the_same_figures_where_columns_name_the_people(album):
    by_name = study.read_pairs(album / "pairs.csv")
    other = {n: f"{k}-selfie.png" for k, n in enumerate(sorted({n for p in by_name for n in (p.a, p.b)}))}
    for old, new in other.items():
        (album / old).rename(album / new)
    with (album / "named.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SAID.strip().split(","))
        for p in by_name:
            persons = [n.rsplit("_", 1)[0] for n in (p.a, p.b)]
            writer.writerow([p.fold, other[p.a], other[p.b], int(p.same), *persons])
    pairs = study.read_pairs(album / "named.csv")
    found = study.figures(pairs, study.capture(pairs, album, encode, Condition.PLAIN), rounds=5)
    assert (found.subjects, found.impostors) == (4, 12)
    assert [a.tar.value for a in found.at_far] == [1.0, 1.0, 1.0]


def test_a_picture_that_is_missing_stops_the_study(album):
    with pytest.raises(VouchError, match="cannot be read"):
        study.capture([Pair(1, "nobody_0001.png", "nobody_0002.png", True)], album, encode, Condition.PLAIN)


def test_no_faces_at_all_is_an_error_and_not_a_figure():
    with pytest.raises(VouchError, match="no face"):
        study.figures([Pair(1, "A_1.png", "B_1.png", False)], Captures({"A_1.png": None, "B_1.png": None}, {}, 1.0))


def test_the_packs_own_thresholds_are_judged_without_failed_captures():
    cosines = cosines_of(15, 0.5, 0.1)
    cosines[:2, 2:4] = cosines[2:4, :2] = 0.7
    pairs, captures = people(cosines)
    captures.probes["P014_1.jpg"] = None
    match = MatchThreshold(fmr_ppm=10_000, score=0.4), MatchThreshold(fmr_ppm=100, score=0.6)
    loose, strict = study.figures(pairs, captures, match=match, rounds=200).at_pack
    # 28 pictures of 14 subjects and one of the last, each comparison once.
    assert (loose.false_matches, loose.fmr.value) == (4, pytest.approx(4 / (29 * 28 / 2 - 14)))
    assert loose.fmr.low == 0 < loose.fmr.value < loose.fmr.high
    assert (loose.genuine, loose.false_non_matches, loose.fnmr) == (14, 0, Estimate(0, 0, 0))
    assert (strict.fmr_ppm, strict.threshold, strict.false_non_matches) == (100, 0.6, 14)
    assert (strict.fmr, strict.fnmr) == (loose.fmr, Estimate(1, 1, 1))


def test_a_loose_pack_is_judged_by_all_impostors_however_many(monkeypatch):
    pairs, captures = people(cosines_of(10, 0.5, 0.1))
    monkeypatch.setattr(study, "_KEEP_ALL", 0)
    (found,) = study.figures(pairs, captures, match=(MatchThreshold(fmr_ppm=10_000, score=0.0),), rounds=5).at_pack
    assert (found.false_matches, found.fmr.value) == (180, 1.0)


def test_failures_to_acquire_are_a_rate_with_its_exact_interval(album):
    pairs = study.read_pairs(album / "pairs.csv")
    found = study.figures(pairs, study.capture(pairs, album, encode, Condition.PLAIN), rounds=5)
    assert found.failure_to_acquire == exact.rate(1, 7)
    assert "FTA                   14.29 % [0.36, 57.87]" in text(found)


# ---- the command


class Colours:
    """The pipeline's two ways from a picture to a template, of people with one colour each."""

    def __init__(self, pack):
        self.portrait = self.central_portrait = encode

    def close(self):
        pass


@pytest.fixture
def evaluate(album, monkeypatch):
    """The command on the album: its exit status."""
    monkeypatch.setattr(command, "Pipeline", Colours)
    monkeypatch.chdir(album)

    def run(*options):
        monkeypatch.setattr("sys.argv", ["evaluation", "pairs.csv", "--images", ".", "--rounds", "20", *options])
        return command.main()

    return run


def test_the_command_prints_what_a_carrier_asks_for(evaluate, capsys):
    assert evaluate() == 0
    said = capsys.readouterr().out
    assert "pairs                 5 of 4 subjects\n" in said
    assert "failures to acquire   1 of 7 captures (counted as non-matches)\n" in said
    assert "impostors             12: all probes with all references of other subjects\n" in said
    assert "TAR at FAR 1e-03     100.00 % [100.00, 100.00] at score " in said
    entries = parse_manifest((DEFAULT_PACK / "pack.toml").read_bytes()).embedder.match
    for entry in entries:
        assert f"FMR at {entry.fmr_ppm} ppm " in said
        assert f"FNMR at {entry.fmr_ppm} ppm " in said
        assert f"of 12 impostors at score {entry.score:.4f}, the pack's; insufficient data: 0 such errors\n" in said
    assert "of 2 genuine pairs; insufficient data" in said
    assert "non-matches for accuracy, TAR and EER (genuine and impostor); in no FAR, FMR and FNMR" in said


def test_the_command_prints_json_that_every_reader_takes(evaluate, capsys):
    assert evaluate("--json", "--rounds", "1") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["impostors"] == 12
    assert [at["fmr_ppm"] for at in found["at_pack"]] == [10_000, 1000, 100]


def test_what_is_no_number_is_null_in_json():
    assert json.loads(report.as_json(Estimate(float("inf"), float("nan"), 1.0))) == {
        "value": None,
        "low": None,
        "high": 1.0,
    }


def test_the_det_plot_says_what_was_measured_under_which_condition(evaluate, album, monkeypatch):
    titles = []
    draw = det.draw
    monkeypatch.setattr(det, "draw", lambda *given: (titles.append(given[-1]), draw(*given)))
    assert evaluate("--condition", "blur", "--det", "det.png") == 0
    assert titles == [f"{album.name}, 5 pairs, blur"]
    assert (album / "det.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rounds", "0"), "at least 1"),
        (("--rounds", "many"), "at least 1"),
        (("--det", "det"), ".png"),
        (("--det", "gone/det.png"), "folder"),
        (("--condition", "fog"), "portrait"),
        (("--condition", "grey", "--write-thresholds"), "plain"),
    ],
)
def test_options_that_make_no_study_are_refused_before_it(evaluate, capsys, monkeypatch, options, said):
    monkeypatch.setattr(study, "capture", lambda *_: pytest.fail("the study has begun"))
    with pytest.raises(SystemExit) as caught:
        evaluate(*options)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_names_conditions_as_they_are_typed_and_the_rule_of_names(evaluate, capsys):
    with pytest.raises(SystemExit):
        evaluate("--help")
    said = capsys.readouterr().out
    assert "{plain,grey,portrait,blur}" in said
    assert "subject_a,subject_b" in said
    assert "`Ada_Lovelace_0001.jpg`" in said


def test_a_study_that_is_not_possible_ends_with_advice_and_2(evaluate, album, capsys):
    assert evaluate("--write-thresholds") == 2  # twelve impostors
    assert "too few" in capsys.readouterr().err
    (album / "pairs.csv").write_text("fold,a,b,same\n")
    assert evaluate() == 2
    assert "what to do: " in capsys.readouterr().err


# ---- thresholds into the manifest

RATES = (
    AtFar(1e-2, Estimate(0.9, 0.8, 1.0), 0.2101),
    AtFar(1e-3, Estimate(0.9, 0.8, 1.0), 0.3),
    AtFar(1e-4, Estimate(0.9, 0.8, 1.0), 0.40001),
)


def test_thresholds_are_written_rounded_up_and_nothing_else_changes(tmp_path):
    before = (DEFAULT_PACK / "pack.toml").read_bytes()
    (tmp_path / "pack.toml").write_bytes(before)
    thresholds.write(tmp_path, RATES, 300_000, "300,000 comparisons")
    old, new = parse_manifest(before), parse_manifest((tmp_path / "pack.toml").read_bytes())
    assert [(m.fmr_ppm, m.score) for m in new.embedder.match] == [(10_000, 0.211), (1000, 0.3), (100, 0.401)]
    assert new.model_copy(update={"embedder": old.embedder}) == old
    once = (tmp_path / "pack.toml").read_text()
    thresholds.write(tmp_path, RATES, 300_000, "300,000 comparisons")
    assert (tmp_path / "pack.toml").read_text() == once


def test_a_manifest_is_replaced_whole_and_never_rewritten_in_place(tmp_path):
    content = (DEFAULT_PACK / "pack.toml").read_bytes()
    (tmp_path / "pack.toml").write_bytes(content)
    (tmp_path / "kept").hardlink_to(tmp_path / "pack.toml")
    thresholds.write(tmp_path, RATES, 300_000, "300,000 comparisons")
    assert (tmp_path / "kept").read_bytes() == content
    assert (tmp_path / "pack.toml").read_bytes() != content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "pack.toml"]


@pytest.fixture
def unsealed(tmp_path):
    """A pack whose manifest has lost a hash."""
    shutil.copytree(DEFAULT_PACK, tmp_path / "pack", ignore=shutil.ignore_patterns("training", "evaluation"))
    manifest = tmp_path / "pack/pack.toml"
    sealed = manifest.read_text()
    manifest.write_text(re.sub('sha256 = "[^"]*"', 'sha256 = "?"', sealed, count=1))
    return tmp_path / "pack"


def sealed(folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["seal", str(folder)])
    return seal.main()


def test_sealing_replaces_the_manifest_whole(unsealed, monkeypatch, capsys):
    (unsealed / "kept").hardlink_to(unsealed / "pack.toml")
    assert sealed(unsealed, monkeypatch) == 0
    assert "hash, size, tensors" in capsys.readouterr().out
    assert 'sha256 = "?"' in (unsealed / "kept").read_text()
    assert (unsealed / "pack.toml").read_bytes() == (DEFAULT_PACK / "pack.toml").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"[detector]\nfile = 'detector.tflite'\nsha256 = ''\nsize_bytes = 0\n", "has no [landmarks]"),
        (b"[detector]\nfile = 'nothing.tflite'\n", "nothing.tflite cannot be read"),
        (b"[detector", "mend the manifest"),
        (b"\xff", "mend the manifest"),
    ],
)
def test_what_cannot_be_sealed_is_told_and_left_as_it_is(unsealed, monkeypatch, capsys, content, said):
    manifest = unsealed / "pack.toml"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    assert sealed(unsealed, monkeypatch) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "what to do: " in told
    assert content == (manifest.read_bytes() if content else None)


def test_a_rate_that_too_few_impostors_can_show_is_not_written(tmp_path):
    (tmp_path / "pack.toml").write_bytes((DEFAULT_PACK / "pack.toml").read_bytes())
    with pytest.raises(VouchError) as caught:
        thresholds.write(tmp_path, RATES, 299_999, "too few")
    assert "300,000" in caught.value.diagnostics()
    assert (tmp_path / "pack.toml").read_bytes() == (DEFAULT_PACK / "pack.toml").read_bytes()


# ---- exact intervals, attacks, groups


@pytest.mark.parametrize(
    ("errors", "trials", "low", "high"),
    # R: binom.test(...)$conf.int
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (1, 20, 0.00127, 0.2487), (5, 50, 0.0333, 0.2181)],
)
def test_the_exact_interval_is_clopper_and_pearsons(errors, trials, low, high):
    found = exact.rate(errors, trials)
    assert found.value == errors / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("errors", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_share_has_no_interval(errors, trials):
    with pytest.raises(ValueError, match="no rate"):
        exact.rate(errors, trials)


def test_each_species_has_its_own_error_and_a_missing_face_is_in_no_rate():
    told = [("bona_fide", 0.5), ("bona_fide", 0.4), ("bona_fide", None)]
    told += [("print", 0.1)] * 11 + [("print", 0.5)] + [("screen", 0.7), ("screen", 0.2), ("mask", None)]
    found = attacks.figures(told, 0.5)
    by_name = {row.species: row for row in found.species}
    assert found.species[0].species == "bona_fide"
    assert (by_name["bona_fide"].error.value, by_name["bona_fide"].non_responses) == (0.5, 1)
    assert by_name["print"].error.value == pytest.approx(1 / 12)
    assert by_name["print"].enough
    assert not by_name["screen"].enough
    assert by_name["mask"].error is None
    assert found.apcer == 0.5  # the worst species, however few its presentations
    said = attacks.text(found)
    assert "insufficient data" in said
    assert "BPCER bona_fide" in said


def test_where_scores_part_attacks_from_people_the_equal_error_rate_is_nothing():
    found = attacks.figures([("bona_fide", 0.8), ("bona_fide", 0.7), ("print", 0.6), ("print", 0.1)], 0.5)
    assert found.eer == 0.0
    assert found.eer_threshold == 0.7
    assert attacks.figures([("print", 0.6)], 0.5).eer is None


def test_a_list_of_stills_of_another_form_is_refused_with_advice(tmp_path):
    (tmp_path / "stills.csv").write_text("name,kind\na.jpg,print\n")
    with pytest.raises(VouchError) as caught:
        list(attacks.listed(tmp_path / "stills.csv", tmp_path))
    assert "file,species" in caught.value.diagnostics()


READERS = {
    "fold,a,b,same": study.read_pairs,
    "file,species": lambda path: list(attacks.listed(path, path.parent)),
    "file,age,sex,group": groups.read_labels,
}


@pytest.mark.parametrize("columns", READERS)
@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"\n",
        b"1\n",  # too short
        b",,,\n",  # no file
        b"\xe9.jpg,30,0,0\n",  # Latin-1
        b"x" * 200_000 + b",1,1,1\n",  # csv.Error: a field above its limit
    ],
)
def test_a_list_that_is_no_such_list_is_refused_with_the_columns_it_should_have(tmp_path, columns, rows):
    (tmp_path / "list.csv").write_bytes(columns.encode() + b"\n" + rows)
    with pytest.raises(VouchError) as caught:
        READERS[columns](tmp_path / "list.csv")
    assert columns in caught.value.todo


@pytest.mark.parametrize("columns", READERS)
def test_a_list_that_is_not_there_is_told(tmp_path, columns):
    with pytest.raises(VouchError, match="cannot be read"):
        READERS[columns](tmp_path / "list.csv")


def test_the_mark_that_excel_writes_is_no_part_of_a_column(tmp_path, album):
    mark = b"\xef\xbb\xbf"
    (album / "pairs.csv").write_bytes(mark + (album / "pairs.csv").read_bytes())
    assert len(study.read_pairs(album / "pairs.csv")) == 5
    (album / "stills.csv").write_bytes(mark + b"file,species\r\nRed_A_0001.png,print\r\n")
    assert [p.species for p in attacks.listed(album / "stills.csv", album)] == ["print"]
    (album / "labels.csv").write_bytes(mark + b"file,age,sex,group\r\nRed_A_0001.png,30,0,\r\n")
    assert groups.read_labels(album / "labels.csv")[0].cells() == ("age 30 to 44", "male", "group unknown")


# ---- the other two commands, by the product's models on the pictures that terminals test a pack with

PICTURES = Path(update_pictures.__file__).parent / "pictures"


def ran(module, monkeypatch, *options):
    monkeypatch.setattr("sys.argv", ["evaluation", *map(str, options)])
    return module.main()


def test_the_attacks_command_judges_stills(tmp_path, monkeypatch, capsys):
    stills = "file,species\nlive-0.jpg,bona_fide\nlive-1.jpg,bona_fide\nprint-0.jpg,print\nempty.jpg,print\n"
    (tmp_path / "stills.csv").write_text(stills)
    assert ran(attacks, monkeypatch, tmp_path / "stills.csv", "--images", PICTURES) == 0
    said = capsys.readouterr().out
    assert "BPCER bona_fide      0.0 % [0.0, 84.2] of 2; 0 without a face; insufficient data" in said
    assert "APCER print          0.0 % [0.0, 97.5] of 1; 1 without a face; insufficient data" in said
    assert ran(attacks, monkeypatch, tmp_path / "stills.csv", "--images", PICTURES, "--threshold", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["apcer"] == 1.0


@pytest.mark.parametrize("options", [(), ("--rendered", "0"), ("--rendered", "-3"), ("list.csv", "--rendered", "-3")])
def test_no_presentations_are_no_report(monkeypatch, capsys, options):
    with pytest.raises(SystemExit) as caught:
        ran(attacks, monkeypatch, *options)
    assert caught.value.code == 2
    assert "--rendered" in capsys.readouterr().err


def test_an_empty_list_of_presentations_is_no_report(tmp_path, monkeypatch, capsys):
    (tmp_path / "stills.csv").write_text("file,species\n")
    assert ran(attacks, monkeypatch, tmp_path / "stills.csv") == 2
    assert "file,species" in capsys.readouterr().err


def test_the_groups_command_judges_pictures(tmp_path, monkeypatch, capsys):
    labels = "file,age,sex,group\nlive-0.jpg,30,0,0\ndocument-1.jpg,50,1,2\nempty.jpg,70,1,9\n"
    (tmp_path / "labels.csv").write_text(labels)
    assert ran(groups, monkeypatch, tmp_path / "labels.csv", "--images", PICTURES, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    cells = {cell["name"]: cell for cell in found["cells"]}
    assert (cells["all"]["pictures"], cells["all"]["comparisons"] + found["left_out"]) == (3, 1)
    assert "group unknown" in cells
    assert ran(groups, monkeypatch, tmp_path / "labels.csv", "--images", PICTURES) == 0
    assert "insufficient data" in capsys.readouterr().out
    assert ran(groups, monkeypatch, tmp_path / "labels.csv") == 2
    assert "what to do: " in capsys.readouterr().err


def crowd(rng, count, spread, group, age):
    """Templates around one direction: the smaller the spread, the more alike these people are."""
    centre = rng.normal(size=32)
    vectors = centre / np.linalg.norm(centre) + spread * rng.normal(size=(count, 32)) / 32**0.5
    rows = [groups.Labelled(f"{group}-{k}.jpg", age, "0", group) for k in range(count)]
    return rows, [Template((v / np.linalg.norm(v)).astype(np.float32), "m") for v in vectors]


def test_a_group_whose_people_look_alike_to_the_model_shows_a_ratio_above_one():
    rng = np.random.default_rng(5)
    unlike, first = crowd(rng, 120, 3.0, "0", 25)
    alike, second = crowd(rng, 120, 1.0, "2", 50)
    few, third = crowd(rng, 3, 3.0, "1", 70)
    found = groups.figures(unlike + alike + few, [*first[:-1], None, *second, *third], 0.5)
    cells = {cell.name: cell for cell in found.cells}
    assert cells["all"].ratio.value == 1.0
    assert cells["Asian"].ratio.low > 1 > cells["White"].ratio.high
    assert cells["Asian"].mean > cells["White"].mean
    assert cells["White"].failures.value == pytest.approx(1 / 120)
    assert cells["age 18 to 29"].fmr == cells["White"].fmr
    assert cells["Black"].fmr is None
    assert cells["Black"].failures is None
    assert "insufficient data" in groups.text(found)


def test_two_pictures_that_are_probably_of_one_person_are_left_out():
    rng = np.random.default_rng(6)
    rows, templates = crowd(rng, 40, 3.0, "0", 25)
    twin = Template(templates[0].vector, "m")
    found = groups.figures([*rows, rows[0]], [*templates, twin], 0.5)
    assert found.left_out == 1
    assert found.cells[0].comparisons == 41 * 40 / 2 - 1


def test_each_draw_takes_a_comparison_as_often_as_both_its_pictures():
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 1, 0], [0, 0, 1]], np.float32)  # cosines 0.6, 0.8, else 0
    scores = vectors @ vectors.T
    one_person = scores > groups.SAME_COSINE
    scores[np.tril_indices(4)] = -np.inf
    draws = np.array([[1, 2, 0, 1], [1, 1, 2, 0], [0, 0, 2, 2]])
    within = groups._Comparisons(scores, one_person, 0.5, draws).within(np.arange(4))
    # The comparison of 0.8 is left out, so five of six count, of which one matches.
    assert within.fmr == 1 / 5
    pairs = np.array([2 * 1 + 2 * 1 + 1 * 1, 1 * 1 + 1 * 2 + 1 * 2, 2 * 2]) * 5 / 6
    assert within.drawn == pytest.approx(np.array([1 * 2, 1 * 1, 0]) / pairs)


def test_labels_of_another_form_are_refused_with_advice(tmp_path):
    (tmp_path / "labels.csv").write_text("file,age,sex\na.jpg,30,1\n")
    with pytest.raises(VouchError) as caught:
        groups.read_labels(tmp_path / "labels.csv")
    assert "file,age,sex,group" in caught.value.diagnostics()
