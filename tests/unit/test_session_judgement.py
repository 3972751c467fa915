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
from edge.session.pad import MIN_RELIEF, PadEvidence, judge
from edge.session.sensor import SensorRecord, SensorSample, has_settled, judge_sensor
from simulator.observed import template_of

POLICY = Policy("t", 1, b"")
T = 0.4
ME = [template_of(1, 0.8, i) for i in range(8)]
OTHER = [template_of(2, 0.8, i) for i in range(8)]


FACTORS = (0.67, 1.5, 0.45)


def followed(delay_frames=3, *, exponent=0.45, metadata=True, picture_delay=None, factors=FACTORS, moved=0.005):
    """Frame by frame: the sensor follows each step after so many frames, while the person moves a little."""
    record = SensorRecord(available=True)
    due = [(1.0, 0)]
    picture_delay = delay_frames if picture_delay is None else picture_delay
    for frame in range(14):
        shown = next(f for f, asked in reversed(due) if asked + picture_delay <= frame or asked == 0)
        told = next(f for f, asked in reversed(due) if asked + delay_frames <= frame or asked == 0)
        luma = 0.4 * shown**exponent * (1 + moved * np.sin(frame))
        record = record.with_sample(SensorSample(frame, luma, told if metadata else None))
        if frame in {1, 3, 6}:
            factor = factors[len(record.asked)]
            record = record.with_asked(frame, factor)
            due.append((factor, frame))
    return record


GOOD = PadEvidence(
    passive_early=(0.9, 0.95, 0.92),
    passive_late=(0.9, 0.91, 0.97),
    reliefs=(0.9, 0.95),
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
        ({"reliefs": (0.9, MIN_RELIEF - 0.01)}, Reason.FLAT_FACE),
        ({"reliefs": (float("nan"), 0.9)}, Reason.FLAT_FACE),
        ({"end": (OTHER[0],)}, Reason.IDENTITY_CHANGED),
        ({"turned": ((ME[2],), (OTHER[1],))}, Reason.IDENTITY_CHANGED),
        ({"sensor": followed(exponent=0.0)}, Reason.SENSOR_MISMATCH),
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
        {"reliefs": (0.9, None)},
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
    assert verdict(replace(POLICY, relief_min_permille=920)).reasons == (Reason.FLAT_FACE,)
    assert verdict(replace(POLICY, continuity_min_permille=990)).reasons == (Reason.IDENTITY_CHANGED,)


@pytest.mark.parametrize("exponent", [0.2, 0.45, 1.0])
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("delay_frames", [2, 3, 4, 5])
def test_a_camera_with_any_tone_curve_that_follows_its_steps_in_time_passes(exponent, metadata, delay_frames):
    record = followed(delay_frames, exponent=exponent, metadata=metadata)
    assert judge_sensor(record, POLICY) is CheckOutcome.PASS
    assert has_settled(record, POLICY) is metadata


@pytest.mark.parametrize(
    "record",
    [
        followed(exponent=0.0, moved=0.0),
        followed(exponent=0.0),
        followed(exponent=-0.45),
        followed(exponent=3.0),
        followed(1),
        followed(1, metadata=False),
        followed(9),
        followed(picture_delay=0),
        followed(picture_delay=1),
        followed(picture_delay=6),
        replace(followed(), samples=tuple(replace(s, metadata_factor=1.0) for s in followed().samples)),
        replace(followed(), samples=tuple(replace(s, luma=0.4) for s in followed().samples)),
    ],
    ids=[
        *("constant", "person moves", "inverted", "overdone", "at once", "at once, without metadata", "too late"),
        *("picture before its metadata", "picture at once", "picture late", "metadata constant", "picture constant"),
    ],
)
def test_a_picture_that_does_not_follow_the_steps_fails(record):
    assert judge_sensor(record, POLICY) is CheckOutcome.FAIL


def test_the_policy_says_how_late_and_how_early_a_sensor_may_be():
    assert judge_sensor(followed(2), replace(POLICY, sensor_delay_min_frames=4)) is CheckOutcome.FAIL
    assert judge_sensor(followed(9), replace(POLICY, sensor_delay_max_frames=9)) is CheckOutcome.PASS
    assert judge_sensor(followed(1), replace(POLICY, sensor_delay_min_frames=1)) is CheckOutcome.PASS


def test_a_lost_frame_breaks_nothing():
    record = followed()
    for lost in range(1, 13):
        kept = tuple(s for s in record.samples if s.frame != lost)
        assert judge_sensor(replace(record, samples=kept), POLICY) is CheckOutcome.PASS


def test_too_few_frames_say_nothing():
    early = replace(followed(), samples=followed().samples[:4])
    assert judge_sensor(early, POLICY) is CheckOutcome.INCONCLUSIVE
    assert judge_sensor(SensorRecord(available=True), POLICY) is CheckOutcome.INCONCLUSIVE
    assert judge_sensor(SensorRecord(), POLICY) is CheckOutcome.NOT_RUN
    assert not has_settled(early, POLICY)


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


def test_the_verdict_tells_the_developer_how_far_every_cue_was_from_its_limit():
    margins = dict(verdict(reliefs=(MIN_RELIEF / 2,)).margins)
    assert margins[Reason.FLAT_FACE] == pytest.approx(0.5)
    assert margins[Reason.PASSIVE_ATTACK] > 1
