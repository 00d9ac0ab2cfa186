"""A program that is killed at any moment loses nothing that is older than two seconds."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from napari_unet import atomic
from napari_unet.config import TrainConfig, class_table
from napari_unet.io import as_image
from napari_unet.project import create_project, open_project
from napari_unet.run import Control

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does"),
]

KILLS = 100
AT_ONCE = 10  # they mostly wait
SAFE = 2.0  # seconds after which a stroke must be on disk
SIZE = 64
STEP = 0.02  # seconds between two strokes


def work(folder: Path, seed: int, told: Connection) -> None:
    """Paint, save and train in a loop, telling of each stroke; until killed, perhaps in a save."""
    import threading

    os.setpgrp()
    project = create_project(folder, classes=class_table(2))
    image = np.random.default_rng(seed).integers(0, 255, (2, SIZE, SIZE)).astype(np.uint8)
    keys = [project.add(as_image(plane, name=f"im{n}")) for n, plane in enumerate(image)]
    labels = [np.zeros((SIZE, SIZE), np.uint8) for _ in keys]
    for key, mine in zip(keys, labels, strict=True):
        project.hold(key, mine)
    threading.Thread(target=lambda: list(project.saving(Control())), daemon=True).start()
    threading.Thread(target=learn, args=(project, image, labels), daemon=True).start()
    if seed % 2:
        die_in_a_save(random.Random(seed))
    for stroke in range(SIZE * SIZE):
        n, place = stroke % 2, divmod(stroke // 2 % (SIZE * SIZE), SIZE)
        labels[n][place] = 1 + stroke % 2
        project.paint(keys[n], tuple(slice(p, p + 1) for p in place))
        told.send((time.monotonic(), n, place))
        time.sleep(STEP)


def learn(project, image, labels) -> None:
    """Train on what is painted, and keep the model, again and again."""
    from napari_unet.annotation import TrainingSet
    from napari_unet.training import train

    tiny = TrainConfig(steps=3, patch=16, batch=1, width=4, depth=1, device="cpu")
    while True:
        training_set = TrainingSet(project.card.classes, 2, (1.0, 1.0))
        training_set.add("im0", image[:1], labels[0].copy(), complete=True)
        model = list(train(tiny, training_set))[-1].model
        model.save(project.folder / "models" / "m")
        project.change(next(iter(project.images)), trained=f"{time.time()}")


def die_in_a_save(chance: random.Random) -> None:
    """Between write, fsync and rename: at some call of theirs the process is killed."""
    left = [chance.randrange(60, 400)]

    def deadly(real):
        def call(*args, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        return call

    atomic.os.fsync = deadly(os.fsync)
    Path.replace = deadly(Path.replace)
    Path.write_text = deadly(Path.write_text)


def kill_some(tmp_path: Path, seeds: range) -> list[tuple[int, str]]:
    """Start processes, kill each after a while; what was lost, and of which seed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["napari_unet.project", "napari_unet.training", __name__])
    running = []
    for seed in seeds:
        told, tells = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(tmp_path / str(seed), seed, tells))
        process.start()
        tells.close()
        running.append((seed, process, told))
    end = {seed: time.monotonic() + random.Random(-seed).uniform(2.5, 5) for seed in seeds}
    strokes: dict[int, list] = {seed: [] for seed in seeds}
    killed: dict[int, float] = {}
    while len(killed) < len(running):
        for seed, process, told in running:
            gone = hear(told, strokes[seed])
            if seed not in killed and (gone or time.monotonic() > end[seed]):
                process.kill()
                killed[seed] = time.monotonic()
        time.sleep(0.005)
    for seed, process, told in running:
        process.join()
        hear(told, strokes[seed])
    return [
        (seed, lost)
        for seed in seeds
        for lost in what_is_lost(tmp_path / str(seed), strokes[seed], killed[seed])
    ]


def hear(told: Connection, strokes: list) -> bool:
    """Take in what was told; whether the other end is gone."""
    try:
        while told.poll():
            strokes.append(told.recv())
    except (EOFError, OSError):
        return True
    return False


def what_is_lost(folder: Path, strokes: list, killed: float) -> list[str]:
    if not strokes:
        return ["it did not begin to paint"]
    project = open_project(folder)
    problems = list(project.problems)
    found = {card.name: project.annotation(key) for key, card in project.images.items()}
    problems += project.problems[len(problems) :]
    for when, n, place in strokes:
        if killed - when > SAFE and (f"im{n}" not in found or not found[f"im{n}"][place]):
            problems.append(f"stroke {place} of im{n}, {killed - when:.1f} s before the end")
    if project.read_only:
        problems.append("locked")
    project.close()
    return problems


def test_a_killed_program_loses_no_stroke_and_no_project(tmp_path):
    lost = []
    for first in range(0, KILLS, AT_ONCE):
        lost += kill_some(tmp_path, range(first, first + AT_ONCE))

    assert lost == []
