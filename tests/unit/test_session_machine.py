"""No order of events reaches a match without its proofs: random sessions, judged again from the raw events alone."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.session import challenge, gathering, machine
from edge.session.comparison import compare, mean_template
from edge.session.decision import ChallengeKind, CheckOutcome, Outcome, Policy
from edge.session.depth import turn_relief
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
    ReferenceReady,
    ReferenceUnusable,
    Seen,
    Show,
    StaffAnswer,
    Tick,
)
from edge.session.observation import FrameInfo, Observation
from simulator.observed import Actor, Attitude, Body, observe, template_of

THRESHOLD = 0.35
FRAME_S = 1 / 14
KINDS = tuple(ChallengeKind)[:5]
TURNS = {ChallengeKind.TURN_LEFT: 1, ChallengeKind.TURN_RIGHT: -1}

bodies = st.builds(
    Body,
    identity=st.sampled_from([1, 1, 1, 2]),
    depth=st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.4]),
    bona_fide=st.sampled_from([0.95, 0.95, 0.95, 0.2]),
)
attitudes = st.builds(
    Attitude,
    yaw_deg=st.sampled_from([0.0, 30.0, -30.0, 10.0]),
    pitch_deg=st.sampled_from([0.0, 25.0]),
    eyes=st.sampled_from([1.0, 0.0]),
    mouth=st.sampled_from([0.0, 1.0]),
)


ENDS = (
    *(Cancel(), Cancel(by_clerk=True), CameraLost(), ReferenceUnusable()),
    *(CallStaff(), CallStaff(by_clerk=True), StaffAnswer(vouches=True), StaffAnswer(vouches=False)),
)
SWAPPED = {ChallengeKind.TURN_LEFT: ChallengeKind.TURN_RIGHT, ChallengeKind.TURN_RIGHT: ChallengeKind.TURN_LEFT}
PERSON, PRINT = Body(), Body(bona_fide=0.2)
# Who positions, who answers, who stands there between and at the end, and how they answer.
ATTACKS = {
    "bent print": (PERSON, Body(depth=0.35), PERSON, {"turn_deg": 60.0}),
    "flat print": (PERSON, Body(depth=0.0), PERSON, {"turn_deg": 45.0}),
    "print at the start": (PRINT, PERSON, PERSON, {}),
    "print later": (PERSON, PRINT, PRINT, {}),
    "other person answers": (PERSON, Body(identity=2), PERSON, {}),
    "other person after the start": (PERSON, Body(identity=2), Body(identity=2), {}),
    "other person": (Body(identity=2), Body(identity=2), Body(identity=2), {}),
    "wrong side": (PERSON, PERSON, PERSON, {"answers": SWAPPED}),
    "no answer": (PERSON, PERSON, PERSON, {"answers": dict.fromkeys(KINDS)}),
    "faster than people": (PERSON, PERSON, PERSON, {"reaction_s": 0.0, "speed_s": 0.01}),
}


class Sessions(RuleBasedStateMachine):
    """Plays any events in any order; remembers the raw events and effects, and judges every match by itself."""

    def __init__(self):
        super().__init__()
        self.state = machine.initial()
        self.now = 50.0
        self.t_s = 3.0
        self.index = 0
        self.body = Body()
        self.actor = Actor(reaction_s=0.25, speed_s=0.12)
        self.seen = []  # (phase before, screen before, observation, body)
        self.others = []  # every other event
        self.results = []
        self.screen = None

    # --- events -------------------------------------------------------------------------------------------------------

    def send(self, event):
        before = self.state.phase
        if isinstance(event, Seen):
            self.seen.append((before, self.screen, event.observation, self.body))
        else:
            self.others.append((before, event))
        again = machine.step(self.state, event, self.now)
        self.state, effects = machine.step(self.state, event, self.now)
        assert [type(e) for e in again[1]] == [type(e) for e in effects]  # pure: the same twice
        for effect in effects:
            if isinstance(effect, Show):
                self.screen = effect.screen
                self.actor.sees(effect.screen, self.t_s)
            if isinstance(effect, Conclude):
                self.results.append(effect.result)

    def frame(self, held, *, several=False, unasked=False, spoil=None):
        self.now += FRAME_S
        self.t_s += FRAME_S
        self.index += 1
        info = FrameInfo(self.index, self.t_s, 640, 480)
        template = unasked or machine.wants_template(self.state)
        bona_fide = unasked or machine.wants_bona_fide(self.state)
        seen = observe(self.body, held, info, template=template, bona_fide=bona_fide)
        if several:
            seen = replace(seen, face_count=2)
        if spoil is not None:
            seen = replace(seen, face=spoil(seen.face))
        self.send(Seen(seen))

    @initialize(
        nonce=st.binary(min_size=16, max_size=32),
        count=st.integers(0, 3),
        attempts=st.integers(1, 3),
        kinds=st.sets(st.sampled_from(KINDS), max_size=5),
        usual=st.sampled_from([True, True, True, False]),
    )
    def begin(self, nonce, count, attempts, kinds, usual):
        policy = Policy("t", 1, b"", challenges=tuple(kinds), challenge_count=count, attempts=attempts)
        self.policy = policy
        self.send(Begin(nonce, policy, THRESHOLD))
        if usual:
            self.send(Consent(given=True))
            self.send(ReferenceReady(template_of(1, 0.8, 0)))

    @rule(given=st.booleans())
    def consent(self, given):
        self.send(Consent(given=given))

    @rule(identity=st.sampled_from([1, 2]))
    def reference(self, identity):
        self.send(ReferenceReady(template_of(identity, 0.8, 0)))

    @rule(body=bodies)
    def somebody_else_steps_in(self, body):
        self.body = body

    @rule(seconds=st.sampled_from([0.5, 1.5, 3.0, 6.0]))
    def the_actor_does_what_is_asked(self, seconds):
        for _ in range(int(seconds / FRAME_S)):
            if self.state.phase is Phase.DONE:
                return
            self.frame(self.actor.at(self.t_s + FRAME_S)[1])

    @rule()
    def a_good_session_so_far_goes_on_to_its_end(self):
        self.the_actor_does_what_is_asked(14.0)

    @rule(attack=st.sampled_from(sorted(ATTACKS)))
    def an_attack_is_played_to_its_end(self, attack):
        """A session that would be a match but for one thing."""
        early, answering, late, traits = ATTACKS[attack]
        self.actor = Actor(**{"reaction_s": 0.25, "speed_s": 0.12, "turn_deg": 35.0, **traits})
        for _ in range(int(34 / FRAME_S)):
            if self.state.phase is Phase.DONE:
                return
            asked = self.screen is not None and self.screen.action is not None
            over = self.state.phase in {Phase.CHALLENGE, Phase.CHECKING}
            self.body = answering if asked else late if over else early
            self.frame(self.actor.at(self.t_s + FRAME_S)[1])

    @rule(held=attitudes, frames=st.integers(1, 12), unasked=st.booleans())
    def something_is_held_before_the_camera(self, held, frames, unasked):
        for _ in range(frames):
            self.frame(held, unasked=unasked)

    @rule(frames=st.integers(1, 8))
    def a_second_face_looks_in(self, frames):
        for _ in range(frames):
            self.frame(Attitude(), several=True)

    @rule(frames=st.integers(1, 8))
    def numbers_that_are_none(self, frames):
        nan = float("nan")
        for _ in range(frames):
            self.frame(
                Attitude(),
                unasked=True,
                spoil=lambda f: replace(f, pose=replace(f.pose, yaw_deg=nan), bona_fide=nan, mouth_openness=nan),
            )

    @rule(frames=st.integers(1, 20))
    def nobody_is_there(self, frames):
        for _ in range(frames):
            self.frame(Attitude(), spoil=lambda _: None)

    @precondition(lambda self: self.seen)
    @rule()
    def an_old_frame_comes_again(self):
        self.send(Seen(self.seen[0][2]))

    @rule(seconds=st.sampled_from([0.1, 1.0, 40.0]))
    def time_passes(self, seconds):
        self.now += seconds
        self.t_s += seconds
        self.send(Tick())

    @rule()
    def cannot(self):
        self.send(CannotDo())

    @rule(vouches=st.booleans())
    def staff_answers_unasked_or_asked(self, vouches):
        self.send(StaffAnswer(vouches))

    @rule()
    def more_time(self):
        self.send(MoreTime())

    @rule(
        event=st.sampled_from(ENDS),
        really=st.integers(0, 5),
    )
    def an_end(self, event, really):
        if really == 0:  # rarely, else no session would get far
            self.send(event)

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def one_result_at_most_and_nothing_is_kept_after_it(self):
        assert len(self.results) == (self.state.phase is Phase.DONE)
        if self.results:
            fresh = machine.initial()
            for name in ("begin", "reference", "last", "faces", "track", "turned", "probes", "recogniser"):
                assert getattr(self.state, name) == getattr(fresh, name)
            assert self.state.pad.start == self.state.pad.turned == self.state.pad.end == ()

    @invariant()
    def staff_assistance_is_a_staff_answer_to_a_call(self):
        for result in self.results:
            if result.outcome is Outcome.STAFF_ASSISTED:
                assert (Phase.ASSIST, StaffAnswer(vouches=True)) in self.others
                assert result.match is CheckOutcome.NOT_RUN

    @invariant()
    def memory_is_bounded(self):
        s = self.state
        assert len(s.faces) <= gathering.MAX_FACES
        assert len(s.track) <= gathering.MAX_TRACK
        assert len(s.log) <= machine.MAX_LOG

    @invariant()
    def a_match_has_all_its_proofs(self):
        for result in self.results:
            assert (result.match is CheckOutcome.PASS) == (result.outcome is Outcome.MATCH)
            if result.outcome is Outcome.MATCH:
                self.prove(result)

    def prove(self, result):
        """From the raw events alone: consent, every required action in its window, no attack, the right face."""
        assert (Phase.CONSENT, Consent(given=True)) in self.others
        assert result.pad is CheckOutcome.PASS
        ended = {phase for phase, event in self.others if isinstance(event, Cancel | CameraLost | CallStaff)}
        assert ended <= {Phase.IDLE, Phase.DONE}
        assert len(result.challenges) >= max(1, self.policy.challenge_count)
        assert all(record.ok for record in result.challenges)
        assert any(record.kind in {*TURNS, ChallengeKind.LOOK_UP} for record in result.challenges)
        for number, record in enumerate(result.challenges, 1):
            self.prove_action(number, record.kind)
        self.prove_bona_fide()
        self.prove_comparison()

    def prove_action(self, number, kind):
        """The last prompt for this step was followed by its movement, not at once, and not after its time."""
        shown = [
            (seen, body)
            for phase, screen, seen, body in self.seen
            if phase is Phase.CHALLENGE and screen.step == number and screen.action is kind and seen.face is not None
        ]
        assert shown, f"step {number} was never asked for"
        # Only the last uninterrupted run of frames: earlier ones were failed attempts.
        gaps = [i for i in range(1, len(shown)) if shown[i][0].frame.index - shown[i - 1][0].frame.index > 4]
        shown = shown[gaps[-1] if gaps else 0 :]
        prompt, rest = next(
            (seen.frame.t_s, seen.face)
            # By their own time: an old frame may have come again, last of all.
            for _, _, seen, _ in sorted(self.seen, key=lambda one: one[2].frame.t_s, reverse=True)
            if seen.frame.t_s < shown[0][0].frame.t_s
            and seen.face is not None
            and np.isfinite(seen.face.pose.yaw_deg)  # an old frame that came again may be one of no numbers
        )
        moved = [
            (seen.frame.t_s, self.amount(kind, seen.face, rest), seen.face.points, body)
            for seen, body in shown
            if seen.face_count == 1 and np.isfinite(seen.face.pose.yaw_deg)
        ]
        far = [(t, points, body) for t, amount, points, body in moved if amount >= 0.6]
        assert far, f"{kind.name} was not done"
        latest_s = 2 * self.policy.action_timeout_ms / 1000 + challenge.UNDER_WAY_S
        assert far[-1][0] - prompt <= latest_s + FRAME_S
        assert far[0][0] - prompt >= 0.12
        if kind in {*TURNS, ChallengeKind.LOOK_UP}:
            assert any(body.depth == 1 for _, _, body in far), "a turn without depth"
            assert turn_relief([points for _, _, points, _ in moved]) is not None
            start = [s.face.template for p, _, s, _ in self.seen if p is Phase.POSITION and s.face is not None]
            during = [seen.face.template for seen, _ in shown if seen.face.template is not None]
            known = [t for t in start if t is not None]
            assert any(compare(a, b) >= 0.6 * THRESHOLD for a in known for b in during), "another person's turn"

    @staticmethod
    def amount(kind, face, rest):
        """Share of a full movement, measured against the face at the prompt and by this test's own numbers."""
        if kind in TURNS:
            return TURNS[kind] * (face.pose.yaw_deg - rest.pose.yaw_deg) / 20
        if kind is ChallengeKind.LOOK_UP:
            return (face.pose.pitch_deg - rest.pose.pitch_deg) / 14
        if kind is ChallengeKind.MOUTH_OPEN:
            return (face.mouth_openness - rest.mouth_openness) / 0.35
        return 2 * (1 - max(face.eye_openness) / max(rest.eye_openness))

    def prove_bona_fide(self):
        """Before the challenge and from then on, frames were scored as bona fide, and not by a print alone."""
        scored = [(p, b) for p, _, s, b in self.seen if s.face is not None and s.face.bona_fide is not None]
        before = [b for p, b in scored if p is Phase.POSITION]
        after = [b for p, b in scored if p in {Phase.CHALLENGE, Phase.CHECKING}]
        assert sum(b.bona_fide >= 0.5 for b in before) >= 3
        assert sum(b.bona_fide >= 0.5 for b in after) >= 3

    def prove_comparison(self):
        """Some probes of both ends have a mean that reaches the threshold, and both ends are alike."""
        reference = next(e.template for p, e in self.others if p is Phase.DOCUMENT and isinstance(e, ReferenceReady))
        made = [(p, s.face.template) for p, _, s, _ in self.seen if s.face is not None and s.face.template is not None]
        first = [t for p, t in made if p is Phase.POSITION]
        last = [t for p, t in made if p is Phase.CHECKING]
        assert first
        assert last
        sets = (a + b for a in combinations(first[-12:], 2) for b in combinations(last, 2))
        assert any(compare(mean_template(both), reference) >= THRESHOLD for both in sets)
        assert any(compare(a, b) >= THRESHOLD for a in first for b in last)


Sessions.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSessions = Sessions.TestCase


def test_the_rules_of_this_proof_can_reach_a_match():
    """Else the proof would hold for a machine that never says match."""
    sessions = Sessions()
    sessions.begin(nonce=b"n" * 16, count=3, attempts=3, kinds={*TURNS, ChallengeKind.BLINK}, usual=True)
    sessions.a_good_session_so_far_goes_on_to_its_end()
    assert [r.outcome for r in sessions.results] == [Outcome.MATCH]
    sessions.a_match_has_all_its_proofs()


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_session_that_lacks_one_thing_is_no_match(attack):
    sessions = Sessions()
    sessions.begin(nonce=b"n" * 16, count=3, attempts=2, kinds={*TURNS, ChallengeKind.BLINK}, usual=True)
    sessions.an_attack_is_played_to_its_end(attack)
    assert [r.outcome for r in sessions.results] != [Outcome.MATCH]
    assert sessions.results


def test_every_transition_is_in_one_table():
    assert {phase for phase, _ in machine.TRANSITIONS} == set(Phase) - {Phase.DONE}
    state = machine.State(phase=Phase.DONE)
    for event in (Tick(), Cancel(), CannotDo(), CameraLost(), Consent(given=True), CallStaff(), StaffAnswer(True)):
        assert machine.step(state, event, 1e9) == (state, ())


def test_an_observation_that_shows_nobody_is_no_error():
    state = machine.State()
    empty = Observation(FrameInfo(0, 0.0, 640, 480), 0, None)
    assert machine.step(state, Seen(empty), 0.0) == (state, ())
