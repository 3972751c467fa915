"""Kills an installation, a start and a confirmation at every step that reaches the disk, and says what a terminal finds.

python -m tests.support.cut_updates FOLDER      prints one JSON object: {"install": [...], "switch": [...]}

A process of its own, single-threaded, that forks: each child is killed by SIGKILL instead of its n-th write, rename,
folder or fsync.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from edge.updates.shelf import Shelf, confirmed
from tests.support.updating import World, make_world

_CALLS = ("fsync", "replace", "rename", "mkdir", "unlink", "chmod")


def main(folder: Path) -> None:
    world = make_world(folder)
    world.publish(1, policy=world.policy(1))
    world.take()
    world.serve()
    world.publish(2, policy=world.policy(2))
    pristine = folder / "pristine"
    shutil.copytree(world.job.settings.state_dir, pristine, symlinks=True)
    install = list(_every_cut(world, pristine, world.take))
    _restore(world, pristine)
    world.take()
    shutil.rmtree(pristine)
    shutil.copytree(world.job.settings.state_dir, pristine, symlinks=True)
    switch = list(_every_cut(world, pristine, lambda: _switch(world.shelf)))
    print(json.dumps({"install": install, "switch": switch}))


def _switch(shelf: Shelf) -> None:
    shelf.begin(lambda pack: pack)
    shelf.change(confirmed)
    shelf.sweep()


def _every_cut(world: World, pristine: Path, work: Callable[[], object]):
    """For each cut: the version that a start finds, then after the same work once more, and the release in force."""
    for after in range(1, 500):
        _restore(world, pristine)
        if not _cut(work, after):
            return
        found = world.start()
        _restore_starts(world)
        world.take()
        again = world.serve()
        yield [found, again, world.state.release, world.shelf.policy(world.state) is not None]


def _restore_starts(world: World) -> None:
    """The start above was only a look."""
    trial = world.state.trial
    if trial is not None:
        world.shelf.change(lambda s: s.model_copy(update={"trial": trial.model_copy(update={"starts": 0})}))


def _cut(work: Callable[[], object], after: int) -> bool:
    """Whether the work was cut before its end."""
    child = os.fork()
    if child == 0:
        count = 0

        def armed(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in _CALLS:
            setattr(os, name, armed(getattr(os, name)))
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the work failed without a cut"
    return False


def _restore(world: World, pristine: Path) -> None:
    shutil.rmtree(world.job.settings.state_dir)
    shutil.copytree(pristine, world.job.settings.state_dir, symlinks=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
