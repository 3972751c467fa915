"""step(state, event, now) -> (state, effects): one transition table, no I/O, no clock, no pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edge.session import challenge, pad
from edge.session.challenge import DEPTH_KINDS, SMALL_KINDS, Recogniser, Stage
from edge.session.comparison import compare, match_band, mean_template
from edge.session.decision import (
    ChallengeKind,
    ChallengeRecord,
    CheckOutcome,
    Ending,
    Evidence,
    Outcome,
    Reason,
    decide,
)
from edge.session.depth import turn_relief
from edge.session.gathering import (
    END_TEMPLATES,
    MAX_FACES,
    NEAR_EXTREME,
    START_TEMPLATES,
    sensitivity,
    wants_bona_fide,
    wants_template,
    with_frontal,
    with_movement,
    with_passive,
    with_rest,
    with_sensor,
)
from edge.session.observation import Observation
from edge.session.pad import PadEvidence
from edge.session.quality import Guidance, Steady, gate, usable_face
from edge.session.sensor import SensorRecord, has_settled, judge_sensor
from edge.session.state import (
    Begin,
    CallStaff,
    CameraLost,
    Cancel,
    CannotDo,
    Conclude,
    Consent,
    Effect,
    Event,
    MoreTime,
    Phase,
    ReferenceReady,
    ReferenceUnusable,
    Screen,
    Seen,
    SensorRun,
    SessionMeasures,
    SetExposure,
    Show,
    StaffAnswer,
    State,
    Tick,
)

__all__ = [  # whoever plays a session speaks of its events and screens through this file
    "Begin",
    "CallStaff",
    "CameraLost",
    "Cancel",
    "CannotDo",
    "Conclude",
    "Consent",
    "Effect",
    "Event",
    "MoreTime",
    "Phase",
    "ReferenceReady",
    "ReferenceUnusable",
    "Screen",
    "Seen",
    "SessionMeasures",
    "SetExposure",
    "Show",
    "StaffAnswer",
    "State",
    "Tick",
    "initial",
    "measures",
    "step",
    "wants_bona_fide",
    "wants_template",
]


# People need longer to read the consent text and to find their document than to move their head; the policy's session
# time runs from the moment the camera looks for a face.
CONSENT_TIMEOUT_S = 60.0
DOCUMENT_TIMEOUT_S = 60.0
CHECKING_TIMEOUT_S = 4.0
ASSIST_TIMEOUT_S = 180.0  # a clerk has to come and look at a document
# WCAG 2.2, success criterion 2.2.1: the end of a time limit is told 20 s ahead, and it can be moved ten times.
TOLD_AHEAD_S = 20.0
MAX_EXTENSIONS = 10

POSITION_HOLD_S = 0.8  # of good frames: the baseline
POSITION_MIN_FRAMES = 5
BAD_FRAMES_FORGIVEN_S = 0.25
MORE_TIME = 2.0  # a person who could not do an action gets this much more for its substitute
# An attack that the passive model is sure of does not get the rest of its attempts.
SURE_ATTACK_FRAMES = 8

MAX_LOG = 64  # lines that a state remembers

SHOW_EACH_S = 1 / 12


Result = tuple[State, tuple[Effect, ...]]


def initial() -> State:
    """No session."""
    return State()


def step(state: State, event: Event, now: float) -> Result:
    """The next state and what to do. `now` is the monotonic clock, seconds; movements are timed by frame timestamps.

    A wait that is over ends the session before the event is looked at, unless the event is the person's own end.
    An event that has no place in the present phase changes nothing.
    """
    if now >= state.deadline_s and not isinstance(event, Cancel):
        return _time_out(state, now)
    handler = TRANSITIONS.get((state.phase, type(event)))
    return handler(state, event, now) if handler else (state, ())


def measures(state: State) -> SessionMeasures | None:
    """The scores of a session that has just concluded; None before."""
    return state.scores


# --- begin, consent, document -----------------------------------------------------------------------------------------


def _begin(_state: State, event: Begin, now: float) -> Result:
    plan = challenge.draw_plan(event.nonce, event.policy.challenges, event.policy.challenge_count)
    fresh = State(
        phase=Phase.CONSENT,
        begin=event,
        begun_s=now,
        deadline_s=now + CONSENT_TIMEOUT_S,
        plan=plan,
        asked=tuple(s.kind for s in plan.steps),
        pad=PadEvidence(sensor=SensorRecord(available=event.exposure_control)),
    )
    return _show(_logged(fresh, "begin", now), now)


def _consent(state: State, event: Consent, now: float) -> Result:
    if not event.given:
        ending = Ending(Outcome.CANCELLED, (Reason.CONSENT_REFUSED,))
        return _conclude(replace(state, consent_at_s=now), ending, now)
    given = replace(
        state,
        phase=Phase.DOCUMENT,
        consent_given=True,
        consent_at_s=now,
        deadline_s=now + DOCUMENT_TIMEOUT_S,
        extensions=0,
    )
    return _show(_logged(given, "consent", now), now)


def _reference(state: State, event: ReferenceReady, now: float) -> Result:
    if not np.isfinite(event.template.vector).all():
        return _conclude(state, Ending(Outcome.INCONCLUSIVE, (Reason.PORTRAIT_UNUSABLE,)), now)
    policy = _begun(state).policy
    ready = replace(
        state,
        phase=Phase.POSITION,
        reference=event.template,
        camera_at_s=now,
        deadline_s=now + policy.session_timeout_ms / 1000,
        extensions=0,
    )
    return _show(_logged(ready, "position", now), now)


def _no_reference(state: State, event: ReferenceUnusable, now: float) -> Result:
    reason = Reason.PORTRAIT_SEVERAL_FACES if event.several_faces else Reason.PORTRAIT_UNUSABLE
    return _conclude(state, Ending(Outcome.INCONCLUSIVE, (reason,)), now)


# --- help and time ----------------------------------------------------------------------------------------------------


def _call_staff(state: State, event: CallStaff, now: float) -> Result:
    return _to_staff(state, Reason.CLERK_CALLED if event.by_clerk else Reason.HELP_ASKED, now)


def _to_staff(state: State, why: Reason, now: float) -> Result:
    """The camera rests; a member of staff takes over. What was seen before stays evidence: it cannot be undone."""
    back = (SetExposure(1.0),) if state.sensor is not None else ()
    waiting = replace(
        state,
        phase=Phase.ASSIST,
        deadline_s=now + ASSIST_TIMEOUT_S,
        extensions=0,
        assist_reason=why,
        sensor=None,
        recogniser=None,
        steady=Steady(),
    )
    state, effects = _show(_logged(waiting, f"assist {why.name}", now), now)
    return state, (*back, *effects)


def _staff_answer(state: State, event: StaffAnswer, now: float) -> Result:
    """A member of staff compared person and document, or says that it cannot be done. Never a match."""
    outcome = Outcome.STAFF_ASSISTED if event.vouches else Outcome.INCONCLUSIVE
    return _conclude(state, Ending(outcome, _assist_reasons(state)), now)


def _assist_reasons(state: State) -> tuple[Reason, ...]:
    return (Reason.STAFF_ASSIST,) if state.assist_reason is None else (Reason.STAFF_ASSIST, state.assist_reason)


def _more_time(state: State, _event: MoreTime, now: float) -> Result:
    if state.extensions >= MAX_EXTENSIONS or _told_left_s(state, now) is None:
        return state, ()
    allowed_s = {
        Phase.CONSENT: CONSENT_TIMEOUT_S,
        Phase.DOCUMENT: DOCUMENT_TIMEOUT_S,
        Phase.ASSIST: ASSIST_TIMEOUT_S,
    }.get(state.phase, _begun(state).policy.session_timeout_ms / 1000)
    state = replace(state, deadline_s=now + allowed_s, extensions=state.extensions + 1)
    return _show(_logged(state, "more time", now), now)


def _told_left_s(state: State, now: float) -> float | None:
    """Seconds that are left, once so few are left that the person should be told; None before."""
    left_s = state.deadline_s - now
    return max(0.0, left_s) if left_s <= TOLD_AHEAD_S else None


# --- ends that can come at any time -----------------------------------------------------------------------------------


def _cancel(state: State, event: Cancel, now: float) -> Result:
    reason = Reason.CLERK_CANCELLED if event.by_clerk else Reason.PERSON_CANCELLED
    return _conclude(state, Ending(Outcome.CANCELLED, (reason,)), now)


def _camera_lost(state: State, _event: CameraLost, now: float) -> Result:
    return _conclude(state, Ending(Outcome.ERROR, (Reason.CAMERA_LOST,)), now)


def _time_out(state: State, now: float) -> Result:
    reason = {
        Phase.DOCUMENT: (Reason.PORTRAIT_UNUSABLE,),
        Phase.POSITION: (_last_complaint(state),),
        Phase.CHALLENGE: (*state.failures, Reason.CHALLENGE_TIMEOUT),
        Phase.CHECKING: (_last_complaint(state),),
        Phase.ASSIST: _assist_reasons(state),
    }.get(state.phase, ())
    return _conclude(state, Ending(Outcome.INCONCLUSIVE, (*reason, Reason.SESSION_TIMEOUT)), now)


def _tick(state: State, _event: Tick, now: float) -> Result:
    return _show(state, now)


def _last_complaint(state: State) -> Reason:
    wanted = state.steady.candidate
    if wanted is Guidance.TWO_PEOPLE:
        return Reason.SEVERAL_FACES
    return Reason.NO_FACE if wanted in {None, Guidance.NO_FACE} and not state.faces else Reason.QUALITY_TIMEOUT


# --- frames -----------------------------------------------------------------------------------------------------------


def _in_order(handler: Callable[[State, Observation, float], Result]) -> Callable[[State, Seen, float], Result]:
    """Frames whose timestamp does not advance say nothing new."""

    def seen(state: State, event: Seen, now: float) -> Result:
        t_s = event.observation.frame.t_s
        if not np.isfinite(t_s) or (state.last is not None and t_s <= state.last.frame.t_s):
            return state, ()
        after, effects = handler(state, event.observation, now)
        return (after if after.phase is Phase.DONE else replace(after, last=event.observation)), effects

    return seen


def _position(state: State, seen: Observation, now: float) -> Result:
    t_s = seen.frame.t_s
    if state.sensor is not None:
        return _sensor(state, seen, now)
    wanted = gate(seen, state.last)
    state = replace(state, steady=state.steady.then(wanted, t_s))
    face = usable_face(seen)
    if wanted is not None or face is None:
        away = state.last_good_s is not None and t_s - state.last_good_s > BAD_FRAMES_FORGIVEN_S
        return _show(_from_the_start(state) if away else state, now)
    if state.last_good_s is not None and t_s - state.last_good_s > challenge.MAX_GAP_S:
        state = _from_the_start(state)
    passed = 0.0 if state.last_good_s is None else t_s - state.last_good_s
    state = replace(state, faces=(*state.faces, face)[-MAX_FACES:], good_s=state.good_s + passed, last_good_s=t_s)
    state = with_passive(with_frontal(state, face, t_s, late=False), face, t_s, late=False)
    ready = (
        state.good_s >= POSITION_HOLD_S
        and len(state.faces) >= POSITION_MIN_FRAMES
        and len(state.pad.start) >= START_TEMPLATES
        and len(state.pad.passive_early) >= pad.MIN_PASSIVE_FRAMES
    )
    if not ready:
        return _show(state, now)
    state = replace(state, baseline=challenge.measure_baseline(state.faces), steady=Steady())
    return _start_sensor(state, seen, now) if _begun(state).exposure_control else _start_challenge(state, now)


def _from_the_start(state: State) -> State:
    """The face was away or unusable: what was gathered may be another person's."""
    evidence = PadEvidence(sensor=SensorRecord(available=state.pad.sensor.available))
    return replace(state, faces=(), good_s=0.0, last_good_s=None, sensor=None, pad=evidence, probes=(), baseline=None)


def _start_sensor(state: State, seen: Observation, now: float) -> Result:
    run = SensorRun(0, seen.frame.index, sensitivity(seen))
    state, effects = _show(_logged(replace(state, sensor=run), "exposure", now), now)
    return _ask_exposure(with_sensor(state, seen), seen.frame.index, effects)


def _ask_exposure(state: State, frame: int, effects: tuple[Effect, ...]) -> Result:
    """The present step of the sensor is asked for."""
    index = 0 if state.sensor is None else state.sensor.index
    factor = _planned(state).exposures[index].factor
    asked = replace(state.pad, sensor=state.pad.sensor.with_asked(frame, factor))
    return replace(state, pad=asked), (SetExposure(factor), *effects)


def _sensor(state: State, seen: Observation, now: float) -> Result:
    run, exposures, t_s = state.sensor, _planned(state).exposures, seen.frame.t_s
    if run is None:
        return state, ()
    if usable_face(seen) is None and state.last_good_s is not None and t_s - state.last_good_s > challenge.MAX_GAP_S:
        state, effects = _show(_from_the_start(state), now)
        return state, (SetExposure(1.0), *effects)
    if usable_face(seen) is not None:
        state = replace(state, last_good_s=t_s)
    state = with_sensor(state, seen)
    passed = seen.frame.index - run.since_frame
    if run.index + 1 < len(exposures):
        if passed < exposures[run.index].frames:
            return _show(state, now)
        state = replace(state, sensor=replace(run, index=run.index + 1, since_frame=seen.frame.index))
        state, effects = _show(state, now)
        return _ask_exposure(state, seen.frame.index, effects)
    policy = _begun(state).policy
    if passed < policy.sensor_delay_max_frames and not has_settled(state.pad.sensor, policy):
        return _show(state, now)
    state = replace(state, sensor=None)
    if judge_sensor(state.pad.sensor, policy) is CheckOutcome.FAIL:
        # Nobody needs to move their head for frames that no sensor took.
        state, effects = _conclude(state, None, now)
        return state, (SetExposure(1.0), *effects)
    state, effects = _start_challenge(state, now)
    return state, (SetExposure(1.0), *effects)


# --- challenge --------------------------------------------------------------------------------------------------------


def _start_challenge(state: State, now: float) -> Result:
    cannot = frozenset() if state.baseline is None else challenge.unreadable(state.baseline)
    return _next_action(replace(state, phase=Phase.CHALLENGE, index=0, cannot=cannot), now)


def _next_action(state: State, now: float) -> Result:
    """The present step is asked for, as planned or, where the person has declined that, by another."""
    planned = _planned(state).steps[state.index]
    if planned.kind in state.cannot:
        return _declined(state, now)
    return _show(_asking(state, planned, now, more_time=False), now)


def _declined(state: State, now: float) -> Result:
    """Another action of equal strength with more time, or a member of staff where there is none."""
    if not _choices(state):
        return _to_staff(state, Reason.MOVEMENT_NOT_POSSIBLE, now)
    return _show(_replaced(state, now, more_time=True), now)


def _asking(state: State, planned: challenge.Step, now: float, *, more_time: bool) -> State:
    timeout_s = _begun(state).policy.action_timeout_ms / 1000 * (MORE_TIME if more_time else 1.0)
    asked = (*state.asked[: state.index], planned.kind, *state.asked[state.index + 1 :])
    recogniser = Recogniser(planned.kind, planned.delay_s, timeout_s)
    # The session's time must not take back what the movement was given; it happens once a step and a kind at most.
    deadline_s = state.deadline_s + timeout_s if more_time else state.deadline_s
    state = replace(state, recogniser=recogniser, asked=asked, track=(), turned=(), deadline_s=deadline_s)
    return _logged(state, f"step {state.index + 1} {planned.kind.name}", now)


def _replaced(state: State, now: float, *, more_time: bool) -> State:
    """Another action of equal strength for the present step. There is one: the caller has looked."""
    choices = _choices(state)
    number = state.replacements + 1
    planned = challenge.draw_replacement(_begun(state).nonce, state.index, number, choices)
    return _asking(replace(state, replacements=number), planned, now, more_time=more_time)


def _choices(state: State) -> tuple[ChallengeKind, ...]:
    """What the present step may ask for instead: preferably not what the step before it asked for.

    A blink that was not seen may be one that cannot be seen on this face (glasses): another action follows. A mouth is
    asked for again: nothing is as strong. A turn is drawn anew, so that nobody gets the other side by waiting.
    """
    asked, allowed = state.asked[state.index], _begun(state).policy.challenges
    if asked in SMALL_KINDS:
        other = challenge.substitutes(asked, allowed, state.cannot | {asked})
        return other or challenge.substitutes(asked, allowed, state.cannot)
    kinds = challenge.substitutes(asked, allowed, state.cannot)
    before = state.asked[state.index - 1] if state.index else None
    return tuple(k for k in kinds if k is not before) or kinds


def _challenge(state: State, seen: Observation, now: float) -> Result:
    r, base, t_s = state.recogniser, state.baseline, seen.frame.t_s
    if r is None or base is None:
        return state, ()
    face = usable_face(seen)
    after = challenge.advance(r, face, t_s, base, mirrored=_begun(state).mirrored_sides)
    state = replace(state, recogniser=after, steady=state.steady.then(_hint(after, seen), t_s))
    state = with_rest(state, after, face, t_s)
    if after.prompt_s is not None and r.prompt_s is None:
        state = _logged(state, f"prompt {after.kind.name}", now)
    if face is not None:
        state = with_movement(state, after, face)
        if abs(after.value) < NEAR_EXTREME:
            state = with_passive(state, face, t_s, late=True)
    if after.stage is Stage.DONE:
        return _answered(state, after, now)
    if after.stage is Stage.FAILED:
        return _unanswered(state, after, now)
    return _show(state, now)


def _answered(state: State, r: Recogniser, now: float) -> Result:
    if r.kind in DEPTH_KINDS:
        relief, policy = turn_relief(state.track), _begun(state).policy
        if relief is not None and policy.flat_relief_max_permille / 1000 <= relief < pad.relief_min(policy):
            # Neither a picture's nor clearly a head's, as short and quick turns of real heads have it: once more.
            return _unanswered(state, replace(r, failure=Reason.FLAT_FACE), now)
        reliefs = (*state.pad.reliefs, relief)
        state = replace(state, pad=replace(state.pad, reliefs=reliefs, turned=(*state.pad.turned, state.turned)))
    state = _logged(state, f"done {r.kind.name}", now)
    state = replace(state, index=state.index + 1, track=(), turned=())
    if state.index < len(state.asked):
        return _next_action(state, now)
    checking = replace(state, phase=Phase.CHECKING, recogniser=None, steady=Steady())
    return _show(_logged(checking, "checking", now), now)


def _unanswered(state: State, r: Recogniser, now: float) -> Result:
    reason = r.failure or Reason.CHALLENGE_TIMEOUT
    state = replace(state, failures=(*state.failures, reason))
    state = _logged(state, f"failed {r.kind.name} {reason.name}", now)
    if r.kind in DEPTH_KINDS:
        # A flat picture that was turned leaves its mark although no turn was recognised.
        relief = turn_relief(state.track, pad.FLAT_TURN_SINE)
        if relief is not None and relief < _begun(state).policy.flat_relief_max_permille / 1000:
            state = replace(state, pad=replace(state.pad, reliefs=(*state.pad.reliefs, relief)))
    policy = _begun(state).policy
    if _surely_attack(state):
        return _conclude(state, Ending(Outcome.LIVENESS_FAIL, state.failures), now)
    if len(state.failures) >= max(1, policy.attempts):
        return _conclude(state, _exhausted(state.failures), now)
    hint = {
        Reason.CHALLENGE_TOO_EARLY: Guidance.TOO_EARLY,
        Reason.CHALLENGE_WRONG_ACTION: Guidance.OTHER_MOVEMENT,
    }.get(reason, Guidance.TRY_AGAIN)
    t_s = state.last.frame.t_s if state.last is not None else 0.0
    return _show(replace(_replaced(state, now, more_time=False), steady=Steady(hint, t_s, hint, t_s)), now)


def _exhausted(failures: tuple[Reason, ...]) -> Ending:
    """No attempt is left. Silence may have many causes; wrong or too early answers are what a recording gives."""
    if set(failures) == {Reason.CHALLENGE_TIMEOUT}:
        return Ending(Outcome.INCONCLUSIVE, (Reason.CHALLENGE_TIMEOUT, Reason.STAFF_ASSIST))
    return Ending(Outcome.LIVENESS_FAIL, failures)


def _surely_attack(state: State) -> bool:
    enough = len(state.pad.passive_early) + len(state.pad.passive_late) >= SURE_ATTACK_FRAMES
    return enough and _judged(state).outcome is CheckOutcome.FAIL


def _cannot(state: State, _event: CannotDo, now: float) -> Result:
    r = state.recogniser
    if r is None or r.stage not in {Stage.PROMPTED, Stage.MOVING}:
        return state, ()
    state = _logged(replace(state, cannot=state.cannot | {r.kind}), f"cannot {r.kind.name}", now)
    return _declined(state, now)


def _hint(r: Recogniser, seen: Observation) -> Guidance | None:
    if seen.face_count > 1:
        return Guidance.TWO_PEOPLE
    if usable_face(seen) is None:
        return Guidance.NO_FACE
    if r.stage is Stage.RETURN:
        return Guidance.COME_BACK
    if challenge.falls_short(r):
        return Guidance.FURTHER
    return Guidance.LOOK_STRAIGHT if r.stage is Stage.SETTLE and r.calm_s is None else None


# --- checking ---------------------------------------------------------------------------------------------------------


def _checking(state: State, seen: Observation, now: float) -> Result:
    t_s = seen.frame.t_s
    since = t_s if state.checking_since_s is None else state.checking_since_s
    wanted = gate(seen, state.last)
    state = replace(state, checking_since_s=since, steady=state.steady.then(wanted, t_s))
    face = usable_face(seen)
    if face is not None and wanted is None:
        state = with_passive(with_frontal(state, face, t_s, late=True), face, t_s, late=True)
    complete = len(state.pad.end) >= END_TEMPLATES and len(state.pad.passive_late) >= pad.MIN_PASSIVE_FRAMES
    return _conclude(state, None, now) if complete or t_s - since > CHECKING_TIMEOUT_S else _show(state, now)


# --- conclusion -------------------------------------------------------------------------------------------------------


def _conclude(state: State, ending: Ending | None, now: float) -> Result:
    """The one way into DONE: decide, show the outcome, let go of everything else."""
    begin = _begun(state)
    state = _logged(state, "conclude", now)
    verdict = _judged(state)
    score = _score(state)
    evidence = Evidence(
        consent_given=state.consent_given,
        consent_at_s=state.consent_at_s,
        challenges=_records(state, verdict.injection),
        pad=verdict.outcome,
        pad_band=verdict.band,
        pad_reasons=verdict.reasons,
        injection=verdict.injection,
        score=score,
        match_threshold=begin.match_threshold,
        match_band=0 if score is None else match_band(score, begin.match_threshold),
        ending=ending,
        steps=state.log,
    )
    result = decide(evidence, begin.policy)
    scores = SessionMeasures(
        score=score,
        match_threshold=begin.match_threshold,
        passive=verdict.passive,
        relief=verdict.relief,
        continuity=verdict.continuity,
        injection=verdict.injection,
        duration_s=0.0 if state.camera_at_s is None else now - state.camera_at_s,
        failures=state.failures,
        margins=verdict.margins,
    )
    screen = Screen(Phase.DONE, outcome=result.outcome)
    back = (SetExposure(1.0),) if state.sensor is not None else ()
    return State(phase=Phase.DONE, shown=screen, shown_at_s=now, scores=scores), (*back, Show(screen), Conclude(result))


def _records(state: State, injection: CheckOutcome) -> tuple[ChallengeRecord, ...]:
    people = [ChallengeRecord(kind, i < state.index) for i, kind in enumerate(state.asked)]
    if injection is not CheckOutcome.NOT_RUN and state.pad.sensor.samples:
        people.append(ChallengeRecord(ChallengeKind.EXPOSURE, injection is CheckOutcome.PASS))
    return tuple(people)


def _judged(state: State) -> pad.PadVerdict:
    begin = _begun(state)
    return pad.judge(state.pad, begin.policy, begin.match_threshold)


def _score(state: State) -> float | None:
    """Mean of the good frontal probes against the reference; None before there are any."""
    if state.reference is None or not state.probes:
        return None
    return compare(mean_template(tuple(p.template for p in state.probes)), state.reference)


# --- screen and log ---------------------------------------------------------------------------------------------------


def _show(state: State, now: float) -> Result:
    """Show what changed at once; mere progress at most twelve times a second."""
    screen = _screen(state, now)
    before = state.shown
    if before is not None:
        same = replace(screen, progress=before.progress, time_left_s=before.time_left_s) == before
        if same and (screen == before or now - state.shown_at_s < SHOW_EACH_S):
            return state, ()
    return replace(state, shown=screen, shown_at_s=now), (Show(screen),)


def _screen(state: State, now: float) -> Screen:
    shown = state.steady.shown
    guidance = None if shown is None else shown.value
    r = state.recogniser
    if state.phase is Phase.POSITION:
        progress = 1.0 if state.sensor is not None else min(1.0, state.good_s / POSITION_HOLD_S)
        if state.sensor is not None and guidance is None:
            guidance = Guidance.HOLD_STILL.value
        return Screen(Phase.POSITION, guidance, progress=progress, time_left_s=_told_left_s(state, now))
    if state.phase is Phase.CHALLENGE and r is not None:
        t_s = 0.0 if r.last_s is None else r.last_s
        return Screen(
            Phase.CHALLENGE,
            guidance,
            action=r.kind if r.prompted else None,
            step=state.index + 1,
            steps=len(state.asked),
            progress=1.0 if r.stage is Stage.RETURN else float(np.clip(r.value, 0.0, 1.0)) if r.prompted else 0.0,
            time_left_s=challenge.remaining_s(r, t_s),
        )
    progress = min(1.0, len(state.pad.end) / END_TEMPLATES) if state.phase is Phase.CHECKING else 0.0
    told = _told_left_s(state, now) if state.phase in _CAN_WAIT else None
    return Screen(state.phase, guidance, progress=progress, time_left_s=told)


def _logged(state: State, name: str, now: float) -> State:
    entry = f"{round((now - state.begun_s) * 1000)} {name}"
    return replace(state, log=(*state.log, entry)[-MAX_LOG:])


def _begun(state: State) -> Begin:
    if state.begin is None:
        msg = f"no session in phase {state.phase.value}"
        raise ValueError(msg)
    return state.begin


def _planned(state: State) -> challenge.Plan:
    if state.plan is None:
        msg = f"no plan in phase {state.phase.value}"
        raise ValueError(msg)
    return state.plan


_CAN_WAIT = (Phase.CONSENT, Phase.DOCUMENT, Phase.POSITION, Phase.ASSIST)  # phases whose time can be extended
_RUNNING = (Phase.CONSENT, Phase.DOCUMENT, Phase.POSITION, Phase.CHALLENGE, Phase.CHECKING)
_ENDS: dict[type, Callable[[State, Any, float], Result]] = {Cancel: _cancel, CameraLost: _camera_lost, Tick: _tick}

TRANSITIONS: MappingProxyType[tuple[Phase, type], Callable[[State, Any, float], Result]] = MappingProxyType(
    {
        (Phase.IDLE, Begin): _begin,
        (Phase.CONSENT, Consent): _consent,
        (Phase.DOCUMENT, ReferenceReady): _reference,
        (Phase.DOCUMENT, ReferenceUnusable): _no_reference,
        (Phase.POSITION, Seen): _in_order(_position),
        (Phase.CHALLENGE, Seen): _in_order(_challenge),
        (Phase.CHALLENGE, CannotDo): _cannot,
        (Phase.CHECKING, Seen): _in_order(_checking),
        (Phase.ASSIST, StaffAnswer): _staff_answer,
        **{(phase, CallStaff): _call_staff for phase in _RUNNING},
        **{(phase, MoreTime): _more_time for phase in _CAN_WAIT},
        **{(phase, event): handler for phase in (*_RUNNING, Phase.ASSIST) for event, handler in _ENDS.items()},
    }
)
