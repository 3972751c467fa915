"""One training run on one CPU core: time, rate, average, checkpoint, progress; what is learned lies elsewhere.

bfloat16 (`torch.autocast`) and channels last are twice as quick as float32 on a CPU with AVX512-BF16; losses stay
float32.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

SAVE_EVERY_S = 60
SAY_EVERY = 50  # steps


def pixels(pictures: Tensor) -> Tensor:
    """uint8 RGB [n, h, w, 3] as networks take it: [n, 3, h, w], x / 127.5 - 1, channels last."""
    x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def half() -> torch.autocast:
    """Multiply in bfloat16, where the processor has that product; where it has not, float32 is quicker."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001


@dataclass(slots=True)
class Run:
    """A model, its running average and its optimiser; all of it is in the checkpoint at `path`."""

    path: Path
    model: nn.Module
    average: torch.optim.swa_utils.AveragedModel
    optimiser: torch.optim.Optimizer
    peaks: list[float]  # learning rate of each group
    spent_s: float = 0.0
    step: int = 0
    images: int = 0
    progress: float = 0.0  # share of the run's time
    _composing_s: float = 0.0
    _since: float = 0.0
    _said: dict[str, float] = field(default_factory=dict)

    @classmethod
    def begin(cls, path: Path, model: nn.Module, groups: list[dict], rate: float, weight_decay: float = 1e-3) -> Run:
        """A new run, or the one that `path` holds. groups: parameters, each with `factor` (default 1) of the rate."""
        peaks = [rate * group.pop("factor", 1.0) for group in groups]
        optimiser = torch.optim.AdamW(groups, lr=rate, weight_decay=weight_decay)
        average = torch.optim.swa_utils.AveragedModel(model, avg_fn=moving_average, use_buffers=True)
        run = cls(path, model, average, optimiser, peaks)
        if path.exists():
            state = torch.load(path)
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            run.spent_s, run.step, run.images = state["spent_s"], state["step"], state["images"]
        return run

    def steps(self, minutes: float) -> Iterator[int]:
        """Number of each step until `minutes` of wall time are spent in all; sets the rate, saves once a minute."""
        self.model.train()
        began, saved_s, here = time.monotonic() - self.spent_s, self.spent_s, self.step
        while self.spent_s < minutes * 60:
            self.progress = self.spent_s / (minutes * 60)
            rate = min(1, (self.step - here + 1) / 200) * (0.5 * (1 + math.cos(math.pi * self.progress)) + 0.005)
            for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
                group["lr"] = rate * peak
            self._since = time.monotonic()
            yield self.step
            self.spent_s = time.monotonic() - began
            if self.step % SAY_EVERY == 0:
                self._say(minutes)
            if self.spent_s - saved_s > SAVE_EVERY_S:
                saved_s = self.spent_s
                self.save()

    def composed(self) -> None:
        """The pictures of this step are ready: what was waited until now counts as composing."""
        self._composing_s += time.monotonic() - self._since

    def learn(self, loss: Tensor, parts: dict[str, Tensor], images: int = 0) -> None:
        """One step of the optimiser, and of the average."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        self.images += images
        for name, value in parts.items():
            self._said[name] = 0.95 * self._said.get(name, value.item()) + 0.05 * value.item()

    def save(self) -> None:
        """The checkpoint, replaced in one step."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "spent_s": self.spent_s, "step": self.step}
        torch.save(state | {"images": self.images}, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)

    def _say(self, minutes: float) -> None:
        line = {"step": self.step, "images": self.images, "per_s": round(self.images / max(self.spent_s, 1), 1)}
        line |= {"min": round(self.spent_s / 60, 1), "left": round(minutes - self.spent_s / 60, 1)}
        line |= {"composing": round(self._composing_s / max(self.spent_s, 1), 2)}
        print(json.dumps(line | {name: round(value, 5) for name, value in self._said.items()}), flush=True)


def moving_average(mean: Tensor, new: Tensor, seen: Tensor) -> Tensor:
    """Exponential mean over 500 steps, over fewer at the start, so that the first weights are soon forgotten."""
    return mean + (new - mean) * torch.clamp(9 / (10 + seen), min=0.002)
