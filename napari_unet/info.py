"""The machine at hand: versions, device, why a GPU is not used, and how fast it is."""

from __future__ import annotations

import platform
import time

import numpy as np
import torch

from napari_unet import __version__
from napari_unet.annotation import TrainingSet
from napari_unet.api import finish, finish_prediction
from napari_unet.cards import library_folder
from napari_unet.config import PredictConfig, TrainConfig, class_table
from napari_unet.device import choose_device, choose_numerics, describe_device, why_no_gpu
from napari_unet.inference import predict
from napari_unet.library import Model
from napari_unet.run import BadInput, Control, Event, Stepped
from napari_unet.samples import cells
from napari_unet.training import train

SIZE = 512


def describe_machine(device: str) -> list[str]:
    """Versions, device and memory, and why a GPU is not used."""
    place = choose_device(device)
    lines = [
        f"napari-unet {__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}",
        f"system      {platform.platform()}",
        f"device      {place}: {describe_device(place)}",
        f"library     {library_folder()}",
    ]
    if place.type == "cpu":
        lines.append(f"GPU         not used: {why_no_gpu()}")
    return lines


def measure_speed(device: str, seconds: float = 8.0) -> list[str]:
    """Train and predict for a few seconds; what was measured, in lines."""
    numerics = choose_numerics(choose_device(device))
    image, truth = cells(0, SIZE)
    training_set = TrainingSet(class_table(1))
    training_set.add("self-test", image[None], truth, complete=True)
    control = Control()
    steps: list[Stepped] = []

    def watch(event: Event) -> None:
        if isinstance(event, Stepped):
            steps.append(event)

    config = TrainConfig(seconds=seconds, device=device)
    model = finish(train(config, training_set, control), control, watch)
    if len(steps) < 2:
        raise BadInput(
            f"This machine took no two training steps in {seconds:g} s; close other programs."
        )
    # The first step is left out: it is slower than all others.
    rate = (steps[-1].step - steps[0].step) / (steps[-1].seconds - steps[0].seconds)
    return [
        f"arithmetic  {numerics.name}, "
        f"{'channels last' if numerics.channels_last else 'contiguous'} (the fastest here)",
        f"training    {rate:.1f} steps/s, {rate * steps[0].pixels / 1e6:.2f} megapixels/s",
        f"prediction  {two_figures(_prediction_speed(model, device))} megapixels/s",
    ]


def two_figures(value: float) -> str:
    """A number in at least two figures, without an exponent."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _prediction_speed(model: Model, device: str) -> float:
    image = np.tile(cells(0, SIZE)[0], (2, 2))[None]
    config = PredictConfig(device=device)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        finish_prediction(predict(model, image, config), None)
        best = max(best, image.size / (time.perf_counter() - start) / 1e6)
    return best
