"""Megapixels per second of our whole training step, beside the bare step and the rivals' steps.

python benchmarks/training_speed.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import rivals
import torch
from common import Target, interleave, medians, ratio, table, write_report

from napari_unet.annotation import TrainingSet
from napari_unet.config import BACKGROUND, NetConfig, TrainConfig, class_table
from napari_unet.device import Numerics, choose_numerics, synchronise
from napari_unet.grain import COARSE
from napari_unet.learner import PATCH
from napari_unet.losses import segmentation_loss
from napari_unet.models import build
from napari_unet.optimiser import Optimiser
from napari_unet.run import Event, Scored, Stepped
from napari_unet.samples import cells
from napari_unet.training import train

ENDLESS = 10**9


@dataclass
class Engine:
    """Our training, advanced some steps at a time."""

    events: Iterator[Event]
    numerics: Numerics
    judging: float = 0.0  # seconds spent on scoring the held-out annotation
    learning: float = 0.0  # and on steps

    def advance(self, steps: int) -> float:
        """Go on by so many steps; their Mpx/s, without the judging in between."""
        pixels, judging = 0, 0.0
        synchronise(self.numerics.device)
        start = time.perf_counter()
        while steps:
            before = time.perf_counter()
            event = next(self.events)
            if isinstance(event, Scored):
                judging += time.perf_counter() - before
            elif isinstance(event, Stepped):
                pixels, steps = pixels + event.pixels, steps - 1
        synchronise(self.numerics.device)
        learning = time.perf_counter() - start - judging
        self.judging, self.learning = self.judging + judging, self.learning + learning
        return pixels / learning / 1e6


def engine(config: TrainConfig, size: int = 1024, images: int = 3) -> Engine:
    """Our training on generated images, with no end."""
    examples = TrainingSet(class_table(1))
    for seed in range(images):
        image, mask = cells(seed, size)
        examples.add(f"cells {seed}", image[None], mask, complete=True)
    config = config.model_copy(update={"steps": ENDLESS})
    return Engine(train(config, examples), choose_numerics(config.device, config.precision))


def usual_grain(arch: str) -> int:
    """That of a net which learned masks that are not too fine."""
    return COARSE if arch == "compact" else 1


def usual(config: TrainConfig) -> TrainConfig:
    """With the grain and the patch that the engine takes where masks are not too fine."""
    grain = usual_grain(config.arch)
    return config.model_copy(update={"grain": grain, "patch": PATCH[grain]})


def pixels_of(config: TrainConfig) -> int:
    """Pixels of a step, of settings as they are usual."""
    assert config.patch is not None
    return config.batch * config.patch**2


def resident_batch(config: TrainConfig, numerics: Numerics) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch on the device, as large as the engine's: images, and 1 where there is a cell."""
    edge = config.patch
    assert edge is not None
    image, mask = cells(0, edge * 4)
    corners = [(i // 4 * edge, i % 4 * edge) for i in range(16)]
    places = [corners[i % 16] for i in range(config.batch)]
    x = torch.stack([torch.from_numpy(image[y : y + edge, x : x + edge]) for y, x in places])
    t = torch.stack([torch.from_numpy(mask[y : y + edge, x : x + edge]) for y, x in places])
    return (x[:, None] / 127.5 - 1).to(numerics.device), t.to(numerics.device)


def bare_steps(config: TrainConfig, numerics: Numerics, plain: bool = False) -> Iterator[None]:
    """Forward, backward and optimiser of the same net and loss, in the engine's number format.

    The optimiser is the engine's, or AdamW if that is to be plain.
    """
    x, mask = resident_batch(config, numerics)
    target = torch.where(mask > 0, 1, BACKGROUND).to(torch.uint8)
    layout = numerics.layout(2)
    net = build(NetConfig(arch=config.arch, grain=config.grain or 1))
    net = net.to(numerics.device, memory_format=layout).train()
    x = x.contiguous(memory_format=layout)
    optimiser: Any = Optimiser(net, config.rate, config.decay)
    if plain:
        optimiser = torch.optim.AdamW(net.parameters(), fused=True)
    scaler = torch.amp.GradScaler(numerics.device.type, enabled=numerics.scaled)
    while True:
        with numerics.autocast():
            logits = net(x)
        loss = segmentation_loss(logits, target, kind=config.loss)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        yield


def rate(steps: Iterator[object], number: int, pixels: int, numerics: Numerics) -> float:
    """Mpx/s of so many steps of so many pixels each."""
    synchronise(numerics.device)
    start = time.perf_counter()
    for _ in range(number):
        next(steps)
    synchronise(numerics.device)
    return number * pixels / (time.perf_counter() - start) / 1e6


def contenders(config: TrainConfig, ours: Engine, steps: int) -> dict[str, Callable[[], float]]:
    """One block of steps of each, by name."""
    numerics = ours.numerics
    pixels = pixels_of(config)
    bare, plain = bare_steps(config, numerics), bare_steps(config, numerics, plain=True)
    samples = [cells(seed, 1024) for seed in range(3)]
    monai = rivals.monai_steps(
        [image for image, _ in samples], [mask for _, mask in samples], 0, str(numerics.device)
    )
    monai_pixels = rivals.BATCH * rivals.PATCH**2
    x, mask = resident_batch(config, numerics)
    textbook = rivals.textbook_steps(x, mask[:, None].float())
    return {
        "ours": lambda: ours.advance(steps),
        "bare": lambda: rate(bare, steps, pixels, numerics),
        "bare, AdamW": lambda: rate(plain, steps, pixels, numerics),
        "MONAI": lambda: rate(monai, max(1, steps // 4), monai_pixels, numerics),
        "textbook": lambda: rate(textbook, max(1, steps // 8), pixels, numerics),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8, help="steps of ours in one round")
    parser.add_argument("--arch", default="compact")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    config = usual(
        TrainConfig(arch=options.arch, device=options.device, precision=options.precision)
    )
    ours = engine(config)
    found = interleave(contenders(config, ours, options.steps), options.rounds, ["textbook"])
    middle = medians(found)
    described = {
        "ours": f"our whole step, {options.arch}",
        "bare": "forward, backward and optimiser of the same net, resident batch",
        "bare, AdamW": "the same with AdamW as its only optimiser",
        "MONAI": "MONAI BasicUNet with the common recipe",
        "textbook": "textbook U-Net, 64 wide, float32, contiguous, resident batch",
    }
    rows = [
        (described[name], f"{middle[name]:.3g}", f"{min(values):.3g} to {max(values):.3g}")
        for name, values in found.items()
    ]
    layout = "channels last" if ours.numerics.channels_last else "contiguous"
    body = table(("what", "Mpx/s, median", "range"), rows)
    body += f"\n\nOurs and bare in {ours.numerics.name}, {layout}; {options.rounds} rounds in turn."
    share = ours.judging / (ours.judging + ours.learning)
    body += f" Judging by the held-out annotation, not counted here, takes {share:.0%} of the time."
    write_report(
        "training_speed",
        "Training speed",
        body,
        {"rates": found, "precision": ours.numerics.name, "judging": share},
        [
            Target("ours / bare", ratio(found, "ours", "bare"), 0.85),
            Target("ours / textbook", ratio(found, "ours", "textbook"), 20),
            Target("ours / MONAI", ratio(found, "ours", "MONAI"), 2.5),
        ],
    )


if __name__ == "__main__":
    main()
