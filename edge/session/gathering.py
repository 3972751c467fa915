"""What a session gathers from its frames: templates, passive scores, the points of a movement, the sensor's answer.

When a frame is of use is said here; what comes of it is judged in pad.py, and what happens next is machine.py's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.session import challenge
from edge.session.challenge import DEPTH_KINDS, Recogniser, Stage
from edge.session.observation import FaceSeen, Observation
from edge.session.sensor import SensorSample
from edge.session.state import Phase, Probe, State

START_TEMPLATES = 2
TURN_TEMPLATES = 2
END_TEMPLATES = 2
PASSIVE_EACH_S = 0.1
TEMPLATE_EACH_S = 0.2
MAX_MOUTH_CHANGE = 0.25
NEAR_EXTREME = 0.6  # from this share of the full movement on, a turned face's template is of use

# Bounds on what a state remembers.
MAX_FACES = 60
MAX_TRACK = 48
REST_FRAMES = 4  # the first of a movement's track stay: they show the face at rest
MAX_PASSIVE = 48


def wants_template(state: State) -> bool:
    """Whether the next frame's template is of use: good frontal frames at both ends, the extremes of the turns."""
    r = state.recogniser
    if state.phase is Phase.POSITION:
        waited = state.last is None or state.last.frame.t_s - state.last_template_s >= TEMPLATE_EACH_S
        return len(state.faces) >= 2 and len(state.pad.start) < START_TEMPLATES and waited
    if state.phase is Phase.CHALLENGE and r is not None:
        return r.kind in DEPTH_KINDS and r.prompted and r.value >= NEAR_EXTREME and len(state.turned) < TURN_TEMPLATES
    return state.phase is Phase.CHECKING and len(state.pad.end) < END_TEMPLATES


def wants_bona_fide(state: State) -> bool:
    """Whether the next frame's passive score is of use: near-frontal frames, ten a second."""
    if state.sensor is not None:
        return False
    waited = state.last is None or state.last.frame.t_s - state.last_passive_s >= PASSIVE_EACH_S
    r = state.recogniser
    if state.phase is Phase.CHALLENGE and r is not None:
        return waited and r.value < NEAR_EXTREME
    return state.phase is Phase.CHECKING or (state.phase is Phase.POSITION and waited)


def with_rest(state: State, r: Recogniser, face: FaceSeen | None, t_s: float) -> State:
    """Who holds still but never comes to the resting state that was measured has another one: it is measured anew."""
    if r.stage is not Stage.SETTLE or r.calm_s is not None or face is None:
        return replace(state, settling=()) if state.settling else state
    settling = (*((at, f) for at, f in state.settling if t_s - at <= challenge.NEW_REST_S), (t_s, face))
    if settling[-1][0] - settling[0][0] < 0.8 * challenge.NEW_REST_S:
        return replace(state, settling=settling)
    base = challenge.new_rest(tuple(f for _, f in settling))
    return replace(state, settling=settling) if base is None else replace(state, settling=(), baseline=base)


def with_movement(state: State, r: Recogniser, face: FaceSeen) -> State:
    """Remember what shows depth and identity: the points over the movement, the template near its extreme."""
    if r.kind not in DEPTH_KINDS or not r.prompted:
        return state
    track = state.track
    # An open mouth draws its corners in: it would pass for foreshortening.
    if state.baseline is not None and abs(face.mouth_openness - state.baseline.mouth_openness) < MAX_MOUTH_CHANGE:
        track = (*track, face.points)
    if len(track) > MAX_TRACK:
        track = (*track[:REST_FRAMES], *track[REST_FRAMES::2])
    turned = state.turned
    if face.template is not None and r.value >= NEAR_EXTREME and len(turned) < TURN_TEMPLATES and _fits(state, face):
        turned = (*turned, face.template)
    return replace(state, track=track, turned=turned)


def with_frontal(state: State, face: FaceSeen, t_s: float, *, late: bool) -> State:
    """A good frontal template: for the comparison, and as one end of the identity's continuity."""
    kept = state.pad.end if late else state.pad.start
    room = len(kept) < (END_TEMPLATES if late else START_TEMPLATES)
    if face.template is None or not room or not _fits(state, face):
        return state
    evidence = (
        replace(state.pad, end=(*kept, face.template)) if late else replace(state.pad, start=(*kept, face.template))
    )
    quality = min(face.quality.sharpness / 100, 1.0) - abs(face.pose.yaw_deg) / 30
    return replace(state, pad=evidence, probes=(*state.probes, Probe(face.template, quality)), last_template_s=t_s)


def _fits(state: State, face: FaceSeen) -> bool:
    """Whether a template can be compared with the reference at all."""
    a, b = face.template, state.reference
    if a is None or b is None or a.model != b.model or a.vector.shape != b.vector.shape:
        return False
    return bool(np.isfinite(a.vector).all())


def with_passive(state: State, face: FaceSeen, t_s: float, *, late: bool) -> State:
    score = face.bona_fide
    if score is None or not 0 <= score <= 1:
        return state
    if late:
        evidence = replace(state.pad, passive_late=(*state.pad.passive_late, score)[-MAX_PASSIVE:])
    else:
        evidence = replace(state.pad, passive_early=(*state.pad.passive_early, score)[-MAX_PASSIVE:])
    return replace(state, pad=evidence, last_passive_s=t_s)


def with_sensor(state: State, seen: Observation) -> State:
    told, reference = sensitivity(seen), None if state.sensor is None else state.sensor.reference
    sample = SensorSample(seen.frame.index, seen.luma, told / reference if told and reference else None)
    return replace(state, pad=replace(state.pad, sensor=state.pad.sensor.with_sample(sample)))


def sensitivity(seen: Observation) -> float | None:
    frame = seen.frame
    return None if frame.exposure_us is None else frame.exposure_us * (frame.gain or 1.0)
