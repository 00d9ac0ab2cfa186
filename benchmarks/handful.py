"""Accuracy from one or three annotated images: ours, a random forest and MONAI's BasicUNet.

python benchmarks/handful.py --data DIR
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rivals
import torch
from common import (
    RESULTS,
    SETS,
    Item,
    Target,
    dice,
    load_set,
    machine,
    measured,
    split,
    table,
    write_report,
)

import napari_unet as nu

THREADS = torch.get_num_threads()
MONAI_SECONDS = 60


@dataclass(frozen=True)
class Run:
    """One training: which images (set, k, seed), and what learns from them for how long."""

    set: str
    k: int
    seed: int
    method: str
    seconds: float


Key = tuple[str, int, int, str, float]


def train_ours(
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    seed: int,
    seconds: float,
    arch: str,
    device: str,
) -> rivals.Predictor:
    """Train with every setting at its default, from random weights."""
    model = nu.train(
        list(images), list(masks), seconds=seconds, arch=arch, device=device, seed=seed
    )
    return partial(nu.predict, model)


def trainer(run: Run, options: argparse.Namespace) -> Callable[..., rivals.Predictor]:
    """What makes a predictor out of images and masks."""
    if run.method == "forest":
        return rivals.train_forest
    if run.method == "monai":
        return partial(rivals.train_monai, seconds=run.seconds, device=options.device)
    arch = run.method.partition(" ")[2] or "compact"
    return partial(train_ours, seconds=run.seconds, arch=arch, device=options.device)


def measure(run: Run, items: Sequence[Item], options: argparse.Namespace) -> dict:
    """Train, predict the unseen images, and say how well and how fast."""
    seen, unseen = split(run.set, items, run.k, run.seed)
    torch.set_num_threads(THREADS)  # whatever the run before has left
    start = time.perf_counter()
    predict = trainer(run, options)([i.image for i in seen], [i.mask for i in seen], seed=run.seed)
    trained = time.perf_counter()
    scores = [dice(predict(item.image), item.mask) for item in unseen]
    predicted = time.perf_counter()
    return {
        **asdict(run),
        "dice": statistics.fmean(scores),
        "images": dict(zip([item.name for item in unseen], scores, strict=True)),
        "learned_from": [item.name for item in seen],
        "train_seconds": trained - start,
        "predict_seconds": predicted - trained,
        "predicted_pixels": sum(item.mask.size for item in unseen),
        "version": nu.__version__,
        "machine": machine(),
    }


def plan(options: argparse.Namespace) -> Iterator[Run]:
    """Every run asked for; all methods of one seed follow one another."""
    ours = "ours" if options.arch == "compact" else f"ours {options.arch}"
    for name in options.sets:
        for k in options.k:
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                if not options.skip_rivals:
                    yield Run(name, k, seed, "forest", 0)
                    yield Run(name, k, seed, "monai", MONAI_SECONDS)
                for seconds in options.seconds:
                    yield Run(name, k, seed, ours, seconds)


def key(record: dict) -> Key:
    return record["set"], record["k"], record["seed"], record["method"], record["seconds"]


def stored(path: Path) -> dict[Key, dict]:
    """The results so far; a line cut off by an interruption is left out."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[key(record)] = record
    return found


def forget(path: Path, methods: Sequence[str]) -> None:
    """Drop the results of these methods, so that they are measured again, and a cut-off line."""
    kept = [record for record in stored(path).values() if record["method"] not in methods]
    draft = path.with_suffix(".draft")
    draft.write_text("".join(json.dumps(record) + "\n" for record in kept))
    draft.replace(path)


def measure_all(options: argparse.Namespace) -> None:
    """Make every run that has no result yet, and keep each result at once."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    forget(options.out, options.redo)
    done, items, loaded = stored(options.out), [], ""
    runs = [run for run in plan(options) if key(asdict(run)) not in done]
    for number, run in enumerate(runs, 1):
        if run.set != loaded:
            items, loaded = load_set(options.data, run.set), run.set
        record = measure(run, items, options)
        with options.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(
            f"{number}/{len(runs)} {run.set} k={run.k} seed={run.seed} {run.method} "
            f"{run.seconds:g} s: Dice {record['dice']:.3f}",
            flush=True,
        )


# -- the report --------------------------------------------------------------------------------

Column = tuple[str, float]  # method and seconds


def title(column: Column) -> str:
    method, seconds = column
    return rivals.NAMES.get(method, method) + (f", {seconds:g} s" if seconds else "")


class Scores:
    """The Dice of each set, number of images and method, by seed."""

    def __init__(self, records: Sequence[dict]) -> None:
        self.values: dict[tuple[str, int, Column], dict[int, float]] = {}
        for record in records:
            place = record["set"], record["k"], (record["method"], record["seconds"])
            self.values.setdefault(place, {})[record["seed"]] = record["dice"]
        order = ["forest", "monai", "ours"]
        columns = {place[2] for place in self.values}
        self.columns = sorted(columns, key=lambda c: (order.index(c[0].split()[0]), c))
        self.sets = [name for name in SETS if any(place[0] == name for place in self.values)]
        self.k = sorted({place[1] for place in self.values})

    def cell(self, name: str, k: int, column: Column) -> str:
        """Mean and spread over the seeds."""
        values = list(self.values.get((name, k, column), {}).values())
        if not values:
            return ""
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.3f}{spread}"

    def leads(self, k: int, ours: Column, others: Sequence[Column]) -> dict[str, float]:
        """How far ours is ahead of the best of the others, over the seeds that all have run."""
        found = {}
        for name in self.sets:
            runs = [self.values.get((name, k, column), {}) for column in (ours, *others)]
            if seeds := set.intersection(*map(set, runs)):
                mine, *theirs = (statistics.fmean(run[seed] for seed in seeds) for run in runs)
                found[name] = mine - max(theirs)
        return found


def targets(scores: Scores, k: int) -> list[Target]:
    """What is wanted of the means over the seeds."""
    forest, monai = ("forest", 0.0), ("monai", float(MONAI_SECONDS))
    given = f"{k} image{'s' if k > 1 else ''}"
    found = []
    if leads := scores.leads(k, ("ours", 5), [forest]):
        found.append(Target(f"{given}: 5 s, worst lead over the forest", min(leads.values()), 0))
    if leads := scores.leads(k, ("ours", 15), [monai]):
        mean = statistics.fmean(leads.values())
        found.append(Target(f"{given}: 15 s, mean lead over MONAI's 60 s", mean, 0.04))
    if leads := scores.leads(k, ("ours", 60), [forest, monai]):
        wins = sum(lead >= 0 for lead in leads.values())
        found += [
            Target(f"{given}: 60 s, sets of {len(leads)} not behind a rival", wins, len(leads)),
            Target(f"{given}: 60 s, worst lead over the better rival", min(leads.values()), 0),
        ]
    return found


def report(records: Sequence[dict], folder: Path, name: str) -> None:
    """The table of each k, its verdicts, and how long training really took."""
    scores = Scores(records)
    parts = []
    for k in scores.k:
        rows = [[s, *(scores.cell(s, k, c) for c in scores.columns)] for s in scores.sets]
        head = [f"learned from {k}", *(title(column) for column in scores.columns)]
        parts.append(table(head, rows))
    took = [
        [title(column), *(f"{value:.1f}" for value in times(records, column))]
        for column in scores.columns
    ]
    parts.append(table(["method", "training s, median", "longest", "prediction, Mpx/s"], took))
    seeds = len({record["seed"] for record in records})
    write_report(
        name,
        f"Dice on six unseen images, mean and standard deviation of draws: {seeds}",
        "\n\n".join([*parts, measured(records)]),
        {"runs": list(records)},
        [target for k in scores.k for target in targets(scores, k)],
        folder,
    )


def times(records: Sequence[dict], column: Column) -> tuple[float, float, float]:
    """Median and longest training time of a method, and its median prediction rate."""
    mine = [r for r in records if (r["method"], r["seconds"]) == column]
    training = [r["train_seconds"] for r in mine]
    rates = [r["predicted_pixels"] / r["predict_seconds"] / 1e6 for r in mine]
    return statistics.median(training), max(training), statistics.median(rates)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with one folder per set")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--k", nargs="+", type=int, default=[1, 3], help="annotated images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seconds", nargs="+", type=float, default=[5, 15, 60], help="ours only")
    parser.add_argument("--arch", default="compact", help="ours only")
    parser.add_argument("--device", default="cpu", help="give another --out with it")
    parser.add_argument("--skip-rivals", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "handful.jsonl")
    parser.add_argument("--redo", nargs="+", default=[], help="methods to measure again: ours ...")
    parser.add_argument("--report", action="store_true", help="only render what is there")
    options = parser.parse_args()
    if not (options.data or options.report):
        parser.error("give the folder of the sets as --data DIR")
    return options


def main() -> None:
    options = parse()
    if not options.report:
        measure_all(options)
    records = list(stored(options.out).values())
    if not records:
        raise SystemExit(f"{options.out} holds no results yet")
    report(records, options.out.parent, options.out.stem)


if __name__ == "__main__":
    main()
