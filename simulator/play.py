"""One session in virtual time: camera -> pipeline -> rules, as fast as the machine allows; who plays is cast.py's.

The rules are the firmware's own, with the models of a pack; only the document's way and the screen are shortened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.drivers.camera import Image
from edge.errors import CameraError, CaptureError, CaptureFault, ConfigError
from edge.session import machine
from edge.session.comparison import Template
from edge.session.decision import ChallengeKind, Policy, SessionResult
from edge.session.machine import Phase, SessionMeasures
from edge.session.observation import Observation, observations_from_jsonl, observations_to_jsonl
from edge.vision.pack import Pack
from edge.vision.pipeline import Pipeline
from simulator.camera import VirtualClock
from simulator.carrier.server import reference_policy
from simulator.cast import cast
from simulator.scenario import Scenario

_FRAMES_MAX = 6000  # a session ends itself long before
_FRAME_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Terminal:
    """What judges: the models of a pack, the carrier's policy, and the score that this asks for."""

    vision: Pipeline
    policy: Policy
    match_threshold: float
    pack_digest: str

    @classmethod
    def open(cls, pack_dir: Path, policy: Policy | None = None) -> Terminal:
        """PackError where the pack is refused."""
        pack = Pack.load(pack_dir)
        policy = policy or reference_policy()
        return cls(Pipeline(pack), policy, pack.match_threshold(policy.match_fmr_ppm), pack.digest.hex())


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What came of a session. `observations` is empty unless it was recorded; templates are in them then."""

    result: SessionResult
    measures: SessionMeasures
    frames: int
    observations: tuple[Observation, ...] = ()
    reference: Template | None = None


OnFrame = Callable[[Image, Observation, machine.Screen | None], None]


def play(scenario: Scenario, terminal: Terminal, *, record: bool = False, on_frame: OnFrame | None = None) -> Played:
    """The whole session. `on_frame` sees every picture, for a human to look at; nothing else keeps one."""
    clock = VirtualClock()
    scene = cast(scenario, clock)
    begin = machine.Begin(
        nonce=scenario.nonce,
        policy=terminal.policy,
        match_threshold=terminal.match_threshold,
        exposure_control=scene.source.exposure_control,
    )
    rules = _Rules(begin, clock, scene.on_screen)
    terminal.vision.reset()
    observations: list[Observation] = []
    reference: Template | None = None
    try:
        reference = terminal.vision.portrait(scene.portrait)
        terminal.vision.reset()
        rules.send(machine.ReferenceReady(reference))
    except CaptureError as exc:
        rules.send(machine.ReferenceUnusable(several_faces=exc.fault is CaptureFault.SEVERAL_FACES))
    frames = 0
    while rules.result is None and frames < _FRAMES_MAX:
        try:
            frame = scene.source.read(_FRAME_TIMEOUT_S)
        except CameraError:
            rules.send(machine.CameraLost())
            break
        if frame is None:
            break
        frames += 1
        seen = terminal.vision.process(
            frame.image,
            frame.info,
            embed=machine.wants_template(rules.state),
            bona_fide=machine.wants_bona_fide(rules.state),
        )
        if record:
            observations.append(seen)
        if on_frame is not None:
            on_frame(frame.image, seen, rules.screen)
        for factor in rules.send(machine.Seen(seen)):
            scene.source.set_exposure(factor)
    scene.source.close()
    return rules.played(frames, tuple(observations), reference)


class _Rules:
    """The session's state and what it has said so far."""

    def __init__(self, begin: machine.Begin, clock: VirtualClock, on_screen: Callable[[machine.Screen], None]) -> None:
        self.state = machine.initial()
        self.screen: machine.Screen | None = None
        self.result: SessionResult | None = None
        self._clock, self._on_screen = clock, on_screen
        self.send(begin)
        self.send(machine.Consent(given=True))

    def send(self, event: machine.Event) -> list[float]:
        """One event; the exposures that the rules ask for."""
        wanted: list[float] = []
        self.state, effects = machine.step(self.state, event, self._clock.monotonic())
        for effect in effects:
            match effect:
                case machine.Show(screen):
                    self.screen = screen
                    self._on_screen(screen)
                case machine.SetExposure(factor):
                    wanted.append(factor)
                case machine.Conclude(result):
                    self.result = result
        return wanted

    def played(self, frames: int, observations: tuple[Observation, ...], reference: Template | None) -> Played:
        measures = machine.measures(self.state)
        if self.result is None or measures is None:
            raise RuntimeError(f"the session did not end within {frames} frames")
        return Played(self.result, measures, frames, observations, reference)


# --- recordings for replay tests: observations, never pixels, never a template ----------------------------------------


def save(path: Path, scenario: Scenario, terminal: Terminal, played: Played) -> None:
    """Scenario, policy and observations as lines of JSON. Of the templates only their likeness to each other and to
    the cohort is kept: vectors with the same cosines are made from it when the session is replayed.
    """
    if played.reference is None:
        raise ConfigError("the session had no reference", todo="record one whose document can be read")
    templates = [played.reference]
    at: list[int | None] = []
    for seen in played.observations:
        template = None if seen.face is None else seen.face.template
        at.append(None if template is None else len(templates))
        if template is not None:
            templates.append(template)
    vectors = np.stack([template.vector for template in templates]).astype(np.float64)
    policy = {**asdict(terminal.policy), "digest": terminal.policy.digest.hex()}
    head = {
        "scenario": scenario.model_dump(mode="json"),
        "policy": policy,
        "match_threshold": terminal.match_threshold,
        "outcome": played.result.outcome.name,
        "reasons": [reason.name for reason in played.result.reasons],
        "likeness": np.round(vectors @ vectors.T, 4).tolist(),
        "cohort": [round(template.cohort, 4) for template in templates],
        "templates": at,
    }
    path.write_text(
        json.dumps(head, separators=(",", ":")) + "\n" + observations_to_jsonl(played.observations), encoding="utf-8"
    )


def replay(path: Path) -> tuple[Played, dict[str, Any]]:
    """The rules over recorded observations; what came now, and the recording's head. ConfigError where it is none."""
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    try:
        head = json.loads(first)
        scenario = Scenario.model_validate(head["scenario"])
        told = head["policy"]
        kinds = tuple(ChallengeKind(kind) for kind in told.pop("challenges"))
        policy = Policy(**{**told, "digest": bytes.fromhex(told["digest"]), "challenges": kinds})
        observations = observations_from_jsonl(rest)
        vectors = _vectors(np.asarray(head["likeness"]))
        templates = [Template(v, "replayed", float(c)) for v, c in zip(vectors, head["cohort"], strict=True)]
        at = head["templates"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} is no recorded session: {exc}", todo="record one with vouch-sim session") from exc
    clock = VirtualClock()
    begin = machine.Begin(scenario.nonce, policy, float(head["match_threshold"]), exposure_control=True)
    rules = _Rules(begin, clock, lambda _: None)
    reference = templates[0]
    rules.send(machine.ReferenceReady(reference))
    for seen in _with_templates(observations, at, templates):
        clock.advance_to(seen.frame.t_s)
        rules.send(machine.Seen(seen))
        if rules.state.phase is Phase.DONE:
            break
    return rules.played(len(observations), observations, reference), head


def _with_templates(
    observations: tuple[Observation, ...], at: list[int | None], templates: list[Template]
) -> Iterator[Observation]:
    for seen, index in zip(observations, at, strict=True):
        if index is None or seen.face is None:
            yield seen
        else:
            yield replace(seen, face=replace(seen.face, template=templates[index]))


def _vectors(likeness: np.ndarray) -> np.ndarray:
    """Unit vectors [n, n] float32 with these cosines, by eigenvectors: rounding leaves small negative values."""
    values, axes = np.linalg.eigh((likeness + likeness.T) / 2)
    vectors = axes * np.sqrt(np.clip(values, 0, None))
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
