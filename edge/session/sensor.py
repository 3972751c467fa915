"""The sensor challenge: exposures that were asked for, frames that came, and whether a sensor took them.

When it runs belongs to machine.py, which exposures are asked for to challenge.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.session.decision import CheckOutcome, Policy

# Frames tell their exposure rounded to lines of the sensor, and gain in steps; the planned factors are 1.5 apart.
METADATA_TOLERANCE = 0.2
MIN_SAMPLES = 5
MAX_SAMPLES = 120

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SensorSample:
    """A frame during the sensor challenge. `frame` counts what the sensor took, lost ones too."""

    frame: int
    luma: float  # mean of the frame, 0..1
    metadata_factor: float | None  # exposure times gain over its value before the challenge


@dataclass(frozen=True, slots=True)
class ExposureAsked:
    """An exposure, relative to before the challenge, that was asked for after frame `frame` had been seen."""

    frame: int
    factor: float


@dataclass(frozen=True, slots=True)
class SensorRecord:
    """What was asked of the sensor and what came; `available`: whether the source takes such wishes at all."""

    available: bool = False
    asked: tuple[ExposureAsked, ...] = ()
    samples: tuple[SensorSample, ...] = ()

    def with_asked(self, frame: int, factor: float) -> SensorRecord:
        """Another step was asked for."""
        return replace(self, asked=(*self.asked, ExposureAsked(frame, factor)))

    def with_sample(self, sample: SensorSample) -> SensorRecord:
        """Another frame came."""
        return replace(self, samples=(*self.samples, sample)[-MAX_SAMPLES:])


def judge_sensor(record: SensorRecord, policy: Policy) -> CheckOutcome:
    """Whether the frames followed the exposure steps, in order, in time and in amount.

    1. Where frames carry metadata, these must tell the steps as they were asked for, all by one delay within the
       policy's limits (a control waits in the sensor's queue: 3 to 4 frames on a Pi; one more frame is forgiven).
       Nothing can change in the very next frame, which was exposed, or set up, when the step was asked for: software
       that brightens pictures does it at once.
    2. The picture of each frame must go with what this frame tells of itself, or without metadata with the steps after
       the delay that fits best: log luma with log exposure, by an exponent that a camera's tone curve can have. Display
       gamma makes it about 0.45; tone curves and saturation take up to half of it.

    What it cannot see: software that plays the whole sensor, delay and noise included. No law of noise is asked for:
    the camera's own noise reduction breaks it, and whoever adds noise can add enough to hide that it is wrong.
    """
    if not record.available:
        return CheckOutcome.NOT_RUN
    samples = [s for s in record.samples if s.luma > 0]
    asked, least, most = record.asked, policy.sensor_delay_min_frames, policy.sensor_delay_max_frames
    if len(samples) < MIN_SAMPLES or not asked or samples[-1].frame < asked[-1].frame + least:
        return CheckOutcome.INCONCLUSIVE
    luma = np.log([s.luma for s in samples])
    if all(s.metadata_factor is not None for s in samples):
        obeyed = any(_obeyed(samples, asked, delay) for delay in range(least, most + 1))
        correlation, exponent = _fit(np.log(_told(samples)), luma) if obeyed else (0.0, 0.0)
    else:
        fits = [_fit(np.log(_in_force(samples, asked, delay)), luma) for delay in range(most + 1)]
        best = max(range(most + 1), key=lambda delay: fits[delay][0])
        correlation, exponent = fits[best] if best >= least else (0.0, 0.0)
    follows = correlation >= policy.sensor_follow_min_permille / 1000
    amount = policy.sensor_exponent_min_permille <= 1000 * exponent <= policy.sensor_exponent_max_permille
    return CheckOutcome.PASS if follows and amount else CheckOutcome.FAIL


def has_settled(record: SensorRecord, policy: Policy) -> bool:
    """Whether the frames tell that every step has arrived: nothing is left to wait for."""
    samples, asked = list(record.samples), record.asked
    if len(samples) < MIN_SAMPLES or any(s.metadata_factor is None for s in samples):
        return False
    delays = range(policy.sensor_delay_min_frames, policy.sensor_delay_max_frames + 1)
    taken = [delay for delay in delays if _obeyed(samples, asked, delay)]
    if not taken or samples[-1].frame < asked[-1].frame + min(taken):
        return False
    return bool(abs(np.log(_told(samples)[-1] / asked[-1].factor)) <= np.log1p(METADATA_TOLERANCE))


def _told(samples: list[SensorSample]) -> Array:
    return np.array([max(s.metadata_factor or 0.0, 1e-3) for s in samples])


def _in_force(samples: list[SensorSample], asked: tuple[ExposureAsked, ...], delay: int) -> Array:
    """The factor that each frame should have if the sensor takes `delay` frames."""
    return np.array([next((a.factor for a in reversed(asked) if a.frame + delay <= s.frame), 1.0) for s in samples])


def _obeyed(samples: list[SensorSample], asked: tuple[ExposureAsked, ...], delay: int) -> bool:
    """Whether every frame's metadata tell the step due then, or one frame later, and more than one step was seen."""
    told = _told(samples)
    due = np.stack([_in_force(samples, asked, delay), _in_force(samples, asked, delay + 1)])
    near = np.abs(np.log(told / due)) <= np.log1p(METADATA_TOLERANCE)
    shown = {a.factor for a in asked if (np.abs(np.log(told / a.factor)) <= np.log1p(METADATA_TOLERANCE)).any()}
    return bool(near.any(axis=0).all()) and len(shown) >= min(2, len({a.factor for a in asked}))


def _fit(factors: Array, luma: Array) -> tuple[float, float]:
    """Correlation of log exposure and log luma, and the exponent; zeros where nothing changes."""
    if factors.std() < 1e-6 or luma.std() < 1e-6:
        return 0.0, 0.0
    return float(np.corrcoef(factors, luma)[0, 1]), float(np.polyfit(factors, luma, 1)[0])
