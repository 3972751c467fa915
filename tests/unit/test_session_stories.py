"""Whole sessions as stories: who stands before the camera, what they do, and what the terminal says in the end."""

from dataclasses import fields, replace
from itertools import pairwise

import pytest

from edge.session import machine
from edge.session.decision import ChallengeKind, CheckOutcome, Outcome, Policy, Reason
from edge.session.machine import (
    Begin,
    CallStaff,
    CameraLost,
    Cancel,
    CannotDo,
    Conclude,
    Consent,
    MoreTime,
    Phase,
    Show,
    StaffAnswer,
    Tick,
)
from simulator.observed import Actor, Attitude, Body, Setting, play, template_of

TURN_LEFT, TURN_RIGHT, BLINK, MOUTH_OPEN, LOOK_UP = list(ChallengeKind)[:5]
POLICY = Policy("test", 1, b"\0" * 32)


def begin(nonce=b"n" * 32, *, exposure=False, **policy):
    return Begin(nonce, replace(POLICY, **policy), 0.35, exposure_control=exposure)


def only(*kinds, **policy):
    """A session that asks for these kinds."""
    return begin(challenges=kinds, **policy)


def test_the_right_person_who_does_what_is_asked_is_a_match():
    played = play(Actor(), begin())
    assert played.result.outcome is Outcome.MATCH
    assert played.result.pad is CheckOutcome.PASS
    assert played.result.match is CheckOutcome.PASS
    assert played.result.reasons == ()
    assert len(played.result.challenges) == 3
    assert all(record.ok for record in played.result.challenges)
    assert played.duration_s < 10


@pytest.mark.parametrize("nonce", [bytes([i]) * 16 for i in range(12)])
def test_every_plan_can_be_done_by_a_person(nonce):
    assert play(Actor(), begin(nonce, challenges=tuple(ChallengeKind)[:5])).result.outcome is Outcome.MATCH


@pytest.mark.parametrize(
    "setting",
    [
        Setting(fps=12),
        Setting(fps=15, lost=0.1, jitter_s=0.02),
        Setting(fps=24, lost=0.2, jitter_s=0.01),
        Setting(fps=60, jitter_s=0.005),
    ],
    ids=["12", "15 with drops", "24 with drops", "60"],
)
def test_the_frame_rate_does_not_matter(setting):
    played = play(Actor(), begin(), setting=setting)
    assert played.result.outcome is Outcome.MATCH
    assert played.duration_s < 11


def test_another_person_with_the_same_document_is_no_match():
    played = play(Actor(body=Body(identity=2)), begin(), reference=template_of(1))
    assert played.result.outcome is Outcome.NO_MATCH
    assert played.result.reasons == (Reason.BELOW_THRESHOLD,)
    assert played.result.pad is CheckOutcome.PASS


def test_a_person_who_turns_too_little_is_asked_to_go_further_and_does():
    shown = []

    def looks(_t_s, state):
        shown.append(None if state.shown is None else state.shown.guidance)

    result = play(Actor(turn_deg=16, further=1.7), only(TURN_LEFT, TURN_RIGHT), interrupt=looks).result
    assert "further" in shown
    assert result.outcome is Outcome.MATCH
    assert Reason.CHALLENGE_TIMEOUT in play(Actor(turn_deg=16), only(TURN_LEFT, TURN_RIGHT)).result.reasons


def test_a_person_who_turns_the_wrong_way_every_time_is_refused():
    wrong = Actor(answers={TURN_LEFT: TURN_RIGHT, TURN_RIGHT: TURN_LEFT})
    result = play(wrong, only(TURN_LEFT, TURN_RIGHT)).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.CHALLENGE_WRONG_ACTION in result.reasons
    assert not any(record.ok for record in result.challenges)


def test_a_person_who_turns_the_wrong_way_once_gets_another_attempt():
    actor = Actor(answers={TURN_LEFT: TURN_RIGHT, TURN_RIGHT: TURN_LEFT})

    def learns(t_s, state):
        if state.failures:
            actor.answers.clear()

    result = play(actor, only(TURN_LEFT, TURN_RIGHT), interrupt=learns).result
    assert result.outcome is Outcome.MATCH


def test_a_recording_that_moves_before_it_is_asked_is_refused():
    actor = Actor()

    def moves_on_its_own(t_s, state):
        # In the pause before each prompt it already does what will be asked.
        r = state.recogniser
        if r is not None and r.stage is machine.Stage.WAIT:
            actor._due.append((t_s, replace(actor.resting, **actor._movement(r.kind))))
        elif r is not None and r.stage is machine.Stage.SETTLE and not r.rested:
            actor._due[:] = [(t_s, actor.resting)]

    result = play(actor, only(TURN_LEFT, TURN_RIGHT), interrupt=moves_on_its_own).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.CHALLENGE_TOO_EARLY in result.reasons


def test_an_answer_faster_than_any_person_is_too_early():
    result = play(Actor(reaction_s=0.0, speed_s=0.01), only(TURN_LEFT, TURN_RIGHT)).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.CHALLENGE_TOO_EARLY in result.reasons


def test_a_person_who_does_nothing_ends_without_an_answer_and_staff_is_asked():
    result = play(Actor(answers=dict.fromkeys(ChallengeKind)), begin()).result
    assert result.outcome is Outcome.INCONCLUSIVE
    assert Reason.CHALLENGE_TIMEOUT in result.reasons
    assert Reason.STAFF_ASSIST in result.reasons


def test_a_flat_photo_that_turns_is_rejected():
    result = play(Actor(body=Body(depth=0.0), turn_deg=45), only(TURN_LEFT, TURN_RIGHT)).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.FLAT_FACE in result.reasons


@pytest.mark.parametrize("depth", [0.25, 0.35])
def test_a_bent_photo_whose_turn_looks_right_has_too_little_relief(depth):
    result = play(Actor(body=Body(depth=depth), turn_deg=60), only(TURN_LEFT, TURN_RIGHT)).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.FLAT_FACE in result.reasons


def test_a_turn_whose_depth_is_neither_a_pictures_nor_a_heads_is_asked_for_again():
    unclear, again = Body(depth=0.35), []

    def body_at(_t_s, screen):
        again.extend([screen] if screen is not None and screen.guidance == "try-again" else [])
        return Body() if again else unclear

    result = play(Actor(body_at=body_at, turn_deg=50), only(TURN_LEFT, TURN_RIGHT)).result
    assert again
    assert result.outcome is Outcome.MATCH


def test_a_print_that_the_passive_model_knows_is_an_attack_even_when_every_movement_is_right():
    result = play(Actor(body=Body(bona_fide=0.1)), begin()).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert result.reasons == (Reason.PASSIVE_ATTACK,)
    assert result.match is CheckOutcome.NOT_RUN
    assert result.match_band == 0


def test_a_screen_that_replaces_the_person_after_positioning_is_not_outvoted():
    def swapped(t_s, screen):
        late = screen is not None and screen.phase in {Phase.CHALLENGE, Phase.CHECKING}
        return Body(bona_fide=0.1 if late else 0.98)

    result = play(Actor(body_at=swapped), begin()).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.PASSIVE_ATTACK in result.reasons


def test_another_person_who_steps_in_for_the_turn_is_noticed():
    def helper(t_s, screen):
        turning = screen is not None and screen.action in {TURN_LEFT, TURN_RIGHT}
        return Body(identity=2 if turning else 1)

    result = play(Actor(body_at=helper), begin()).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.IDENTITY_CHANGED in result.reasons


def test_another_person_at_the_end_is_noticed():
    def swapped(t_s, screen):
        return Body(identity=2 if screen is not None and screen.phase is Phase.CHECKING else 1)

    result = play(Actor(body_at=swapped), begin()).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert Reason.IDENTITY_CHANGED in result.reasons


def test_a_person_who_cannot_turn_gets_another_action_of_equal_strength():
    cannot = {TURN_LEFT, TURN_RIGHT}
    actor = Actor(answers=dict.fromkeys(cannot))

    def says_so(t_s, state):
        r = state.recogniser
        return CannotDo() if r is not None and r.prompted and r.kind in cannot else None

    result = play(actor, only(TURN_LEFT, TURN_RIGHT, LOOK_UP, BLINK), interrupt=says_so).result
    assert result.outcome is Outcome.MATCH
    assert LOOK_UP in {record.kind for record in result.challenges}


def test_a_person_who_can_do_none_of_them_is_helped_by_staff():
    def says_so(t_s, state):
        return CannotDo() if state.recogniser is not None and state.recogniser.prompted else None

    def says_so_and_is_helped(t_s, state):
        return StaffAnswer(vouches=True) if state.phase is Phase.ASSIST else says_so(t_s, state)

    result = play(Actor(answers=dict.fromkeys(ChallengeKind)), begin(), interrupt=says_so_and_is_helped).result
    assert result.outcome is Outcome.STAFF_ASSISTED
    assert result.reasons == (Reason.STAFF_ASSIST, Reason.MOVEMENT_NOT_POSSIBLE)
    assert result.match is CheckOutcome.NOT_RUN


def in_phase(phase, *events):
    """Puts these events in, one a frame, once the session stands in `phase`."""
    waiting = list(events)

    def interrupt(t_s, state):
        return waiting.pop(0) if waiting and (state.phase is phase or len(waiting) < len(events)) else None

    return interrupt


@pytest.mark.parametrize("phase", [Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING])
@pytest.mark.parametrize("by_clerk", [False, True])
def test_help_can_be_called_at_any_time_and_has_an_outcome_of_its_own(phase, by_clerk):
    helped = in_phase(phase, CallStaff(by_clerk), StaffAnswer(vouches=True))
    result = play(Actor(), begin(), interrupt=helped).result
    assert result.outcome is Outcome.STAFF_ASSISTED
    assert result.reasons == (Reason.STAFF_ASSIST, Reason.CLERK_CALLED if by_clerk else Reason.HELP_ASKED)
    assert result.match is CheckOutcome.NOT_RUN


def test_a_person_who_wants_no_face_check_is_helped_without_consent():
    state, _ = machine.step(machine.initial(), begin(), 0.0)
    state, _ = machine.step(state, CallStaff(), 1.0)
    assert state.phase is Phase.ASSIST
    _, effects = machine.step(state, StaffAnswer(vouches=True), 2.0)
    result = next(e.result for e in effects if isinstance(e, Conclude))
    assert (result.outcome, result.consent_given) == (Outcome.STAFF_ASSISTED, False)


def test_staff_who_cannot_tell_say_so_and_staff_who_never_come_are_no_assistance():
    called = in_phase(Phase.POSITION, CallStaff(), StaffAnswer(vouches=False))
    assert play(Actor(), begin(), interrupt=called).result.outcome is Outcome.INCONCLUSIVE
    alone = play(Actor(), begin(), interrupt=in_phase(Phase.POSITION, CallStaff()), limit_s=200).result
    assert alone.outcome is Outcome.INCONCLUSIVE
    assert alone.reasons == (Reason.STAFF_ASSIST, Reason.HELP_ASKED, Reason.SESSION_TIMEOUT)


def test_staff_cannot_undo_an_attack_that_was_seen():
    print_turns = Actor(body=Body(depth=0.0, bona_fide=0.05), turn_deg=45.0)
    rescued = in_phase(Phase.CHECKING, CallStaff(by_clerk=True), StaffAnswer(vouches=True))
    assert play(print_turns, begin(attempts=9), interrupt=rescued).result.outcome is Outcome.LIVENESS_FAIL


def test_staff_who_answer_unasked_change_nothing():
    unasked = in_phase(Phase.CHALLENGE, StaffAnswer(vouches=True))
    assert play(Actor(), begin(), interrupt=unasked).result.outcome is Outcome.MATCH


def test_time_that_runs_out_is_told_ahead_and_can_be_extended():
    state, _ = machine.step(machine.initial(), begin(), 0.0)
    assert machine.step(state, MoreTime(), 1.0) == (state, ())
    late, effects = machine.step(state, Tick(), 45.0)
    assert [e.screen.time_left_s for e in effects] == [15.0]
    more, _ = machine.step(late, MoreTime(), 46.0)
    assert more.deadline_s == 46.0 + machine.CONSENT_TIMEOUT_S
    for _ in range(20):
        more, _ = machine.step(more, MoreTime(), more.deadline_s - 1)
    assert more.extensions == machine.MAX_EXTENSIONS


def test_a_substitute_movement_gets_its_time_from_the_session_too():
    deadlines = []

    def says_so(t_s, state):
        if state.recogniser is None or not state.recogniser.prompted:
            return None
        deadlines.append(state.deadline_s)
        return CannotDo() if len(deadlines) == 1 else None

    asked = begin(challenges=(TURN_LEFT, TURN_RIGHT, BLINK, MOUTH_OPEN))
    assert play(Actor(), asked, interrupt=says_so).result.outcome is Outcome.MATCH
    assert deadlines[1] - deadlines[0] == machine.MORE_TIME * POLICY.action_timeout_ms / 1000


def test_the_sides_are_the_persons_own_and_follow_a_mirrored_source():
    mirrored = replace(only(TURN_LEFT, TURN_RIGHT), mirrored_sides=True)
    swapped = Actor(answers={TURN_LEFT: TURN_RIGHT, TURN_RIGHT: TURN_LEFT})
    assert play(swapped, mirrored).result.outcome is Outcome.MATCH
    assert play(Actor(), mirrored).result.outcome is Outcome.LIVENESS_FAIL


def test_the_baseline_is_the_persons_own():
    low_camera = Actor(resting=Attitude(yaw_deg=8, pitch_deg=20, roll_deg=6, eyes=0.65))
    assert play(low_camera, begin(b"b" * 16)).result.outcome is Outcome.MATCH


def test_eyes_that_cannot_be_read_are_not_asked_to_blink():
    narrow = Actor(resting=Attitude(eyes=0.3))
    result = play(narrow, only(BLINK, MOUTH_OPEN, TURN_LEFT, TURN_RIGHT)).result
    assert result.outcome is Outcome.MATCH
    assert BLINK not in {record.kind for record in result.challenges}


@pytest.mark.parametrize("nonce", [bytes([number]) * 16 for number in range(6)])  # a blink first, second and third
def test_a_turn_never_stands_in_for_the_lids_that_a_mask_does_not_have(nonce):
    narrow = Actor(resting=Attitude(eyes=0.3))
    asked = begin(nonce, challenges=(BLINK, TURN_LEFT, TURN_RIGHT))
    played = play(narrow, asked)
    assert played.result is None
    assert played.state.phase is Phase.ASSIST
    assert played.state.assist_reason is Reason.MOVEMENT_NOT_POSSIBLE


def test_a_picture_with_holes_for_the_eyes_does_not_get_a_blink_for_a_mouth_by_declining_it():
    def declines(t_s, state):
        r = state.recogniser
        return CannotDo() if r is not None and r.prompted and r.kind is MOUTH_OPEN else None

    for number in range(6):
        played = play(Actor(answers={MOUTH_OPEN: None}), begin(bytes([number]) * 16), interrupt=declines)
        assert played.result is None
        assert played.state.phase is Phase.ASSIST


def test_a_picture_whose_mouth_stands_open_is_asked_for_a_mouth_all_the_same():
    shown_open = Actor(resting=Attitude(mouth=0.5), answers={MOUTH_OPEN: None})
    assert play(shown_open, begin()).result.outcome is not Outcome.MATCH
    full_lips = Actor(resting=Attitude(mouth=0.45))
    result = play(full_lips, begin()).result
    assert result.outcome is Outcome.MATCH
    assert MOUTH_OPEN in {record.kind for record in result.challenges}


def test_a_mask_whose_lids_and_jaw_are_rigid_is_refused_although_it_turns():
    for number in range(12):
        rigid = Actor(answers={BLINK: None, MOUTH_OPEN: None})
        result = play(rigid, begin(bytes([number]) * 16)).result
        assert result.outcome in {Outcome.INCONCLUSIVE, Outcome.LIVENESS_FAIL}


def test_a_person_who_was_measured_while_they_moved_gets_a_new_resting_state():
    settled = Actor(resting=Attitude(yaw_deg=-9))

    def shifted(t_s, _screen):
        settled.resting = Attitude(yaw_deg=0.0 if t_s < 0.9 else -9.5)
        return settled.body

    settled.body_at = shifted
    assert play(settled, only(BLINK, TURN_LEFT, TURN_RIGHT)).result.outcome is Outcome.MATCH


def test_a_blink_that_cannot_be_seen_is_not_asked_for_again():
    glasses = Actor(answers={BLINK: None})
    result = play(glasses, begin(b"\x02" * 16)).result
    assert result.outcome is Outcome.MATCH
    assert [step.split(" ", 1)[1] for step in result.steps].count("prompt BLINK") == 1


def test_a_sensor_that_follows_its_exposure_steps_passes():
    result = play(Actor(), begin(exposure=True, exposure_required=True)).result
    assert result.outcome is Outcome.MATCH
    assert result.injection is CheckOutcome.PASS


@pytest.mark.parametrize("setting", [Setting(fps=12, latency_frames=4), Setting(fps=60, latency_frames=1)])
def test_the_sensors_steps_do_not_depend_on_the_frame_rate(setting):
    result = play(Actor(), begin(exposure=True, exposure_required=True), setting=setting).result
    assert result.outcome is Outcome.MATCH


def test_a_virtual_camera_that_ignores_the_exposure_steps_is_an_attack():
    deaf = Setting(latency_frames=100_000)
    result = play(Actor(), begin(exposure=True), setting=deaf).result
    assert result.outcome is Outcome.LIVENESS_FAIL
    assert result.injection is CheckOutcome.FAIL
    assert Reason.SENSOR_MISMATCH in result.reasons


def test_a_policy_that_requires_exposure_steps_is_not_met_by_a_source_without_control():
    result = play(Actor(), begin(exposure_required=True)).result
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.injection is CheckOutcome.NOT_RUN
    assert Reason.SENSOR_MISMATCH in result.reasons


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        (Cancel(), Outcome.CANCELLED, Reason.PERSON_CANCELLED),
        (Cancel(by_clerk=True), Outcome.CANCELLED, Reason.CLERK_CANCELLED),
        (CameraLost(), Outcome.ERROR, Reason.CAMERA_LOST),
    ],
)
@pytest.mark.parametrize("phase", [Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING])
def test_an_end_that_comes_at_any_time_gives_a_result(event, outcome, reason, phase):
    played = play(Actor(), begin(), interrupt=lambda t_s, state: event if state.phase is phase else None)
    assert played.result.outcome is outcome
    assert reason in played.result.reasons
    assert played.result.match is CheckOutcome.NOT_RUN


def test_consent_that_is_refused_ends_the_session_before_any_frame_is_looked_at():
    state, _ = machine.step(machine.initial(), begin(), 1.0)
    assert not machine.wants_template(state)
    state, effects = machine.step(state, Consent(given=False), 2.0)
    result = next(e.result for e in effects if isinstance(e, Conclude))
    assert result.outcome is Outcome.CANCELLED
    assert result.reasons == (Reason.CONSENT_REFUSED,)
    assert not result.consent_given


def test_nobody_there_ends_in_time():
    state, _ = machine.step(machine.initial(), begin(), 0.0)
    state, _ = machine.step(state, Consent(given=True), 1.0)
    state, _ = machine.step(state, machine.ReferenceReady(template_of(1)), 2.0)
    state, effects = machine.step(state, Tick(), 31.9)
    assert state.phase is Phase.POSITION
    state, effects = machine.step(state, Tick(), 32.0)
    result = next(e.result for e in effects if isinstance(e, Conclude))
    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.reasons == (Reason.NO_FACE, Reason.SESSION_TIMEOUT)


def test_nothing_of_the_person_is_left_when_the_session_is_over():
    played = play(Actor(), begin())
    fresh = machine.initial()
    kept = {f.name for f in fields(fresh) if getattr(played.state, f.name) != getattr(fresh, f.name)}
    assert kept <= {"phase", "shown", "shown_at_s", "scores", "pad"}
    assert played.state.pad.start == played.state.pad.end == played.state.pad.turned == ()


def test_the_result_shows_no_score_only_bands():
    result = play(Actor(), begin()).result
    assert 4 <= result.match_band <= 7
    assert 4 <= result.pad_band <= 7
    assert machine.measures(play(Actor(), begin()).state).score == pytest.approx(0.87, abs=0.1)


def test_the_step_log_has_names_and_milliseconds_alone():
    steps = play(Actor(), begin()).result.steps
    assert steps[0] == "0 begin"
    assert steps[-1].endswith(" conclude")
    assert sum(" prompt " in step for step in steps) == 3


def test_the_screen_changes_at_once_and_progress_no_faster_than_fifteen_times_a_second():
    played = play(Actor(), begin(), setting=Setting(fps=60))
    shown = [(t_s, effect.screen) for t_s, effect in played.effects if isinstance(effect, Show)]
    assert len(shown) / played.duration_s < 15
    assert {s.action for _, s in shown if s.action} == {r.kind for r in played.result.challenges}
    positions = [t_s for t_s, s in shown if s.phase is Phase.POSITION]
    assert all(b - a <= 0.2 for a, b in pairwise(positions))
