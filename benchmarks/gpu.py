"""On a CUDA GPU: steps per second against the bare step, bf16 against float32, and no memory left.

python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import Target, elapsed, interleave, medians, ratio, table, write_report
from prediction_speed import random_model, repeated, run
from training_speed import bare_steps, engine, pixels_of, rate, usual

from napari_unet.config import PredictConfig, TrainConfig
from napari_unet.inference import predict
from napari_unet.run import Noticed, Predicted, Stepped
from napari_unet.samples import cells

PRECISIONS = ("bfloat16", "float32")


def speeds(options: argparse.Namespace) -> dict[str, list[float]]:
    """Mpx/s of our step, the bare step and our prediction, in each number format."""
    rates: dict[str, Callable[[], float]] = {}
    for precision in PRECISIONS:
        rates |= speeds_in(precision, options)
    return interleave(rates, options.rounds)


def speeds_in(precision: str, options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """What to measure in one number format."""
    config = usual(TrainConfig(arch=options.arch, device=options.device, precision=precision))
    ours = engine(config)
    bare = bare_steps(config, ours.numerics)
    pixels = pixels_of(config)
    image = repeated(cells(0, 1024)[0], (options.edge,) * 2)
    model = random_model(arch=options.arch)
    wanted = PredictConfig(device=options.device, precision=precision)
    return {
        f"ours, {precision}": lambda: ours.advance(options.steps),
        f"bare, {precision}": lambda: rate(bare, options.steps, pixels, ours.numerics),
        f"prediction, {precision}": lambda: (
            image.size / 1e6 / elapsed(lambda: run(model, image, wanted))
        ),
    }


def recover_training(options: argparse.Namespace) -> list[str]:
    """Ask for a step that cannot fit; what is said until ten steps are done."""
    config = TrainConfig(device=options.device, batch=64, patch=512)
    said, done = [], 0
    with Scarce(options):
        events = engine(config).events
        while done < 10:
            event = next(events)
            done += isinstance(event, Stepped)
            if isinstance(event, Noticed) and event.kind == "memory":
                said.append(event.message)
    return said


def recover_prediction(options: argparse.Namespace) -> tuple[list[str], float]:
    """Ask for one huge tile; what is said, and the part of the mask that is as by small tiles."""
    image, model = repeated(cells(0, 1024)[0], (8192, 8192)), random_model(arch="simple")
    small = PredictConfig(device=options.device, precision="float32", tile=1024)
    with Scarce(options):
        events = list(predict(model, image, small.model_copy(update={"tile": 8192})))
    said = [e.message for e in events if isinstance(e, Noticed) and e.kind == "memory"]
    *_, last = predict(model, image, small)
    assert isinstance(last, Predicted)
    assert isinstance(events[-1], Predicted)
    return said, float((last.labels == events[-1].labels).mean())


class Scarce:
    """While entered, the GPU's allocator refuses more than so many GB, as a small card would."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        total = torch.cuda.get_device_properties(self.device).total_memory
        self.part = min(1.0, options.limit * 1e9 / total)

    def __enter__(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(self.part, self.device)

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--edge", type=int, default=8192, help="of the image to predict")
    parser.add_argument("--arch", default="compact")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--limit", type=float, default=2, help="GB left for the memory tests")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing to measure.")
        return
    found = speeds(options)
    trained = recover_training(options)
    predicted, same = recover_prediction(options)
    middle = medians(found)
    per_step = pixels_of(usual(TrainConfig(arch=options.arch))) / 1e6
    rows = [
        (
            name,
            f"{middle[name]:.4g}",
            "" if name.startswith("prediction") else f"{middle[name] / per_step:.1f}",
        )
        for name in found
    ]
    said = "\n".join(f"- {message}" for message in trained + predicted)
    write_report(
        "gpu",
        f"On a CUDA GPU, {options.arch}",
        table(("what", "Mpx/s, median", "steps/s"), rows)
        + f"\n\nWith {options.limit:g} GB left:\n\n{said}",
        {"rates": found, "training": trained, "prediction": predicted},
        [
            Target("ours / bare, bfloat16", ratio(found, "ours, bfloat16", "bare, bfloat16"), 0.85),
            Target("ours / bare, float32", ratio(found, "ours, float32", "bare, float32"), 0.85),
            Target("bfloat16 / float32", ratio(found, "ours, bfloat16", "ours, float32"), 1),
            Target("recoveries of training", len(trained), 1),
            Target("recoveries of prediction", len(predicted), 1),
            Target("mask after recovery, part that is the same", same, 0.99),
        ],
    )


if __name__ == "__main__":
    main()
