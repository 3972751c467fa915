"""Attack checks, comparison and the decision, each from evidence that is written down by hand."""

from dataclasses import replace

import numpy as np
import pytest

from edge.session.comparison import Template, compare, match_band, mean_template
from edge.session.decision import (
    ChallengeKind,
    ChallengeRecord,
    CheckOutcome,
    Ending,
    Evidence,
    Outcome,
    Policy,
    Reason,
    SessionResult,
    decide,
)
from edge.session.pad import MIN_RELIEF, PadEvidence, SensorSample, judge, judge_sensor
from simulator.observed import template_of

POLICY = Policy("t", 1, b"")
T = 0.4
ME = [template_of(1, 0.8, i) for i in range(8)]
OTHER = [template_of(2, 0.8, i) for i in range(8)]


def sensor(exponent=0.45, factors=(0.6, 1.5, 0.45), metadata=True, age_s=0.4):
    return tuple(
        SensorSample(f, age_s, 6, 0.4 * f**exponent * (1 + 0.004 * (i % 3)), f if metadata else None)
        for f in factors
        for i in range(4)
    )


def steps(delay_frames, factors=(0.6, 1.5, 0.45), moved=0.0, fps=30):
    """Frame by frame: the picture follows each step after so many frames, while the person moves a little."""
    samples, factor, passed = [SensorSample(1.0, 0.3, 5, 0.4, None)], 1.0, 0
    for wanted in factors:
        for age in range(1, 15):
            shown = wanted if age >= delay_frames else factor
            luma = 0.4 * shown**0.45 * (1 + moved * np.sin(passed))
            samples.append(SensorSample(wanted, age / fps, age, luma, None))
            passed += 1
        factor = wanted
    return tuple(samples)


GOOD = PadEvidence(
    passive_early=(0.9, 0.95, 0.92),
    passive_late=(0.9, 0.91, 0.97),
    reliefs=(0.4, 0.45),
    start=(ME[0], ME[1]),
    turned=((ME[2],), (ME[3],)),
    end=(ME[4], ME[5]),
)


def verdict(policy=POLICY, **changes):
    return judge(replace(GOOD, **changes), policy, T)


def test_a_bona_fide_session_passes_every_part():
    v = verdict()
    assert v.outcome is CheckOutcome.PASS
    assert v.reasons == ()
    assert v.band >= 4
    assert v.injection is CheckOutcome.NOT_RUN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"passive_early": (0.1, 0.2, 0.1)}, Reason.PASSIVE_ATTACK),
        ({"passive_late": (0.1, 0.2, 0.1)}, Reason.PASSIVE_ATTACK),
        ({"reliefs": (0.4, MIN_RELIEF - 0.01)}, Reason.FLAT_FACE),
        ({"reliefs": (float("nan"), 0.4)}, Reason.FLAT_FACE),
        ({"end": (OTHER[0],)}, Reason.IDENTITY_CHANGED),
        ({"turned": ((ME[2],), (OTHER[1],))}, Reason.IDENTITY_CHANGED),
        ({"sensor_available": True, "sensor": sensor(exponent=0.0)}, Reason.SENSOR_MISMATCH),
    ],
)
def test_one_part_that_fails_fails_the_whole(changes, reason):
    v = verdict(**changes)
    assert v.outcome is CheckOutcome.FAIL
    assert reason in v.reasons
    assert v.band <= 3 or reason is Reason.SENSOR_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"passive_early": ()},
        {"passive_late": (0.9,)},
        {"reliefs": ()},
        {"reliefs": (0.4, None)},
        {"start": ()},
        {"turned": ((), (ME[3],))},
        {"end": ()},
    ],
)
def test_a_part_that_did_not_run_leaves_the_whole_open(changes):
    assert verdict(**changes).outcome is CheckOutcome.INCONCLUSIVE


def test_nothing_at_all_was_not_run():
    assert judge(PadEvidence(), POLICY, T).outcome is CheckOutcome.NOT_RUN


def test_one_bad_passive_frame_among_many_is_forgiven():
    assert verdict(passive_late=(0.9, 0.1, 0.9, 0.95, 0.92)).outcome is CheckOutcome.PASS


def test_the_policy_can_ask_for_more_than_the_rules_own_minimum():
    assert verdict(replace(POLICY, bona_fide_min_permille=930)).reasons == (Reason.PASSIVE_ATTACK,)
    assert verdict(replace(POLICY, relief_min_permille=420)).reasons == (Reason.FLAT_FACE,)
    assert verdict(replace(POLICY, continuity_min_permille=990)).reasons == (Reason.IDENTITY_CHANGED,)


@pytest.mark.parametrize("exponent", [0.2, 0.45, 1.0])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_camera_with_any_tone_curve_that_follows_its_steps_passes(exponent, metadata):
    evidence = PadEvidence(sensor_available=True, sensor=sensor(exponent, metadata=metadata))
    assert judge_sensor(evidence) is CheckOutcome.PASS


@pytest.mark.parametrize(
    "samples",
    [
        sensor(exponent=0.0),
        sensor(exponent=-0.45),
        sensor(exponent=3.0),
        tuple(replace(s, luma=0.4) for s in sensor()),
        tuple(replace(s, metadata_factor=1.0) for s in sensor()),
        tuple(replace(s, luma=other) for s, other in zip(sensor(), reversed([s.luma for s in sensor()]), strict=True)),
    ],
    ids=["flat", "inverted", "overdone", "constant", "metadata disagrees", "late"],
)
def test_a_picture_that_does_not_follow_the_steps_fails(samples):
    assert judge_sensor(PadEvidence(sensor_available=True, sensor=samples)) is CheckOutcome.FAIL


def test_frames_that_are_still_settling_say_nothing():
    unsettled = tuple(replace(s, age_s=0.1, luma=0.4) for s in sensor())
    assert judge_sensor(PadEvidence(sensor_available=True, sensor=unsettled)) is CheckOutcome.INCONCLUSIVE
    assert judge_sensor(PadEvidence(sensor_available=True, sensor=(*unsettled, *sensor()))) is CheckOutcome.PASS


def test_a_comparison_score_is_a_cosine_and_models_never_mix():
    assert compare(ME[0], ME[0]) == pytest.approx(1.0)
    assert compare(ME[0], ME[1]) == pytest.approx(0.8, abs=0.1)
    assert abs(compare(ME[0], OTHER[0])) < 0.3
    with pytest.raises(ValueError, match="different models"):
        compare(ME[0], Template(ME[0].vector, "another"))
    with pytest.raises(ValueError, match="different models"):
        mean_template((ME[0], Template(ME[0].vector, "another")))


def test_the_mean_of_several_probes_is_nearer_to_the_person_than_each():
    mean = mean_template(tuple(ME[:4]))
    assert np.linalg.norm(mean.vector) == pytest.approx(1.0, abs=1e-5)
    assert compare(mean, ME[7]) > max(compare(t, ME[7]) for t in ME[:4])


def test_a_template_never_shows_itself():
    assert "0." not in repr(ME[0])


def test_bands_are_monotonous_and_four_is_the_threshold():
    bands = [match_band(score / 100, 0.4) for score in range(-100, 101)]
    assert bands == sorted(bands)
    assert set(bands) == set(range(8))
    assert match_band(0.4, 0.4) == 4
    assert match_band(0.399, 0.4) == 3


EVIDENCE = Evidence(
    consent_given=True,
    consent_at_s=1.0,
    challenges=tuple(
        ChallengeRecord(kind, ok=True)
        for kind in (ChallengeKind.TURN_LEFT, ChallengeKind.BLINK, ChallengeKind.MOUTH_OPEN)
    ),
    pad=CheckOutcome.PASS,
    pad_band=5,
    pad_reasons=(),
    injection=CheckOutcome.NOT_RUN,
    score=0.6,
    match_threshold=T,
    match_band=match_band(0.6, T),
)


def test_complete_evidence_of_the_right_person_is_a_match():
    result = decide(EVIDENCE, POLICY)
    assert result.outcome is Outcome.MATCH
    assert result.match is CheckOutcome.PASS
    assert result.match_band == 6


@pytest.mark.parametrize(
    ("changes", "outcome", "reason"),
    [
        ({"score": 0.39}, Outcome.NO_MATCH, Reason.BELOW_THRESHOLD),
        ({"score": float("nan")}, Outcome.NO_MATCH, Reason.BELOW_THRESHOLD),
        ({"score": None}, Outcome.INCONCLUSIVE, Reason.QUALITY_TIMEOUT),
        ({"pad": CheckOutcome.FAIL, "pad_reasons": (Reason.FLAT_FACE,)}, Outcome.LIVENESS_FAIL, Reason.FLAT_FACE),
        ({"pad": CheckOutcome.INCONCLUSIVE}, Outcome.INCONCLUSIVE, Reason.QUALITY_TIMEOUT),
        ({"pad": CheckOutcome.NOT_RUN}, Outcome.INCONCLUSIVE, Reason.QUALITY_TIMEOUT),
        ({"consent_given": False}, Outcome.INCONCLUSIVE, None),
        ({"challenges": EVIDENCE.challenges[:2]}, Outcome.INCONCLUSIVE, Reason.CHALLENGE_TIMEOUT),
        ({"challenges": ()}, Outcome.INCONCLUSIVE, Reason.CHALLENGE_TIMEOUT),
        (
            {"challenges": (*EVIDENCE.challenges[:2], ChallengeRecord(ChallengeKind.MOUTH_OPEN, ok=False))},
            Outcome.INCONCLUSIVE,
            Reason.CHALLENGE_TIMEOUT,
        ),
        (
            {"challenges": (*EVIDENCE.challenges[:2], ChallengeRecord(ChallengeKind.EXPOSURE, ok=True))},
            Outcome.INCONCLUSIVE,
            Reason.CHALLENGE_TIMEOUT,
        ),
        ({"ending": Ending(Outcome.ERROR, (Reason.CAMERA_LOST,))}, Outcome.ERROR, Reason.CAMERA_LOST),
        ({"ending": Ending(Outcome.CANCELLED, (Reason.PERSON_CANCELLED,))}, Outcome.CANCELLED, Reason.PERSON_CANCELLED),
    ],
)
def test_evidence_that_lacks_one_thing_is_no_match(changes, outcome, reason):
    result = decide(replace(EVIDENCE, **changes), POLICY)
    assert result.outcome is outcome
    assert reason is None or reason in result.reasons
    assert result.match is not CheckOutcome.PASS


def test_an_attack_on_the_wrong_person_is_told_as_an_attack_and_not_compared():
    result = decide(replace(EVIDENCE, pad=CheckOutcome.FAIL, pad_reasons=(Reason.PASSIVE_ATTACK,), score=0.1), POLICY)
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert result.match is CheckOutcome.NOT_RUN
    assert result.match_band == 0


def test_an_attack_is_told_also_when_time_ran_out():
    ending = Ending(Outcome.INCONCLUSIVE, (Reason.SESSION_TIMEOUT,))
    evidence = replace(EVIDENCE, pad=CheckOutcome.FAIL, pad_reasons=(Reason.FLAT_FACE,), ending=ending)
    assert decide(evidence, POLICY).outcome is Outcome.LIVENESS_FAIL


def test_a_result_has_no_field_that_could_hold_a_face_or_a_score():
    types = {name: str(kind) for name, kind in SessionResult.__annotations__.items()}
    assert not any(word in kind for kind in types.values() for word in ("ndarray", "bytes", "Template", "NDArray"))
    assert [name for name, kind in types.items() if "float" in kind] == ["consent_at_s"]


@pytest.mark.parametrize("delay_frames", [2, 3, 4])
def test_a_sensor_follows_the_steps_a_few_frames_later(delay_frames):
    evidence = PadEvidence(sensor_available=True, sensor=steps(delay_frames, moved=0.02))
    assert judge_sensor(evidence) is CheckOutcome.PASS


def test_pictures_that_follow_in_the_very_next_frame_come_from_no_sensor():
    evidence = PadEvidence(sensor_available=True, sensor=steps(1, moved=0.02))
    assert judge_sensor(evidence) is CheckOutcome.FAIL


def test_where_the_next_frame_was_lost_nothing_is_said_of_it():
    kept = tuple(s for s in steps(1) if s.age_frames > 1)
    assert judge_sensor(PadEvidence(sensor_available=True, sensor=kept)) is CheckOutcome.PASS


def test_the_verdict_tells_the_developer_how_far_every_cue_was_from_its_limit():
    margins = dict(verdict(reliefs=(MIN_RELIEF / 2,)).margins)
    assert margins[Reason.FLAT_FACE] == pytest.approx(0.5)
    assert margins[Reason.PASSIVE_ATTACK] > 1
