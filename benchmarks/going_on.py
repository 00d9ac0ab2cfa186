"""A new image comes to a project: going on from its model, or starting again.

python benchmarks/going_on.py --data DIR [--sets NAME ...] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import RESULTS, SETS, Item, Target, dice, load_set, machine, split, table, write_report

import napari_unet as nu
from napari_unet.library import Model

BEFORE, FIRST = 2, 60.0  # images that the project's model has learned, and for how many seconds
TIMES = (5.0, 15.0)  # seconds that are spent on the new image
# What is learned: from which weights, and whether with the images before as a project has them.
AGAIN, ON, ALONE = "start again, all images", "go on, all images", "go on, the new image alone"
WAYS = {AGAIN: (False, True), ON: (True, True), ALONE: (True, False)}
STORE = RESULTS / "going_on.jsonl"


def learned(items: Sequence[Item], seconds: float, seed: int, start: str | Model) -> Model:
    images, masks = [i.image for i in items], [i.mask for i in items]
    return nu.train(images, masks, seconds=seconds, seed=seed, init=start)


def score(model: Model, items: Sequence[Item]) -> float:
    return statistics.fmean(dice(np.asarray(nu.predict(model, i.image)), i.mask) for i in items)


def measure(name: str, items: Sequence[Item], seed: int) -> list[dict]:
    """Dice on unseen images, and on those learned first, in every way and after every time."""
    seen, unseen = split(name, items, BEFORE + 1, seed)
    first, new = seen[:BEFORE], seen[BEFORE:]
    before = learned(first, FIRST, seed, "random")

    def record(way: str, seconds: float, model: Model) -> dict:
        found = {"unseen": score(model, unseen), "first": score(model, first)}
        return {"set": name, "seed": seed, "way": way, "seconds": seconds} | found

    records = [record("before", 0.0, before)]
    for way, (goes_on, with_all) in WAYS.items():
        for seconds in TIMES:
            start = before if goes_on else "random"
            model = learned(seen if with_all else new, seconds, seed, start)
            records.append(record(way, seconds, model))
    return records


def report(records: Sequence[dict]) -> None:
    sets = [s for s in SETS if any(r["set"] == s for r in records)]

    columns = [("before", 0.0), *((way, t) for t in TIMES for way in WAYS)]
    names = [way if not t else f"{way}, {t:g} s" for way, t in columns]

    def cell(of: Sequence[str], column: tuple[str, float]) -> tuple[float, float]:
        """Mean Dice of some sets on unseen images, and on those learned first."""
        here = [r for r in records if r["set"] in of and (r["way"], r["seconds"]) == column]
        return (
            statistics.fmean(r["unseen"] for r in here),
            statistics.fmean(r["first"] for r in here),
        )

    rows = [
        [name, *(f"{a:.3f} ({b:.3f})" for a, b in (cell(of, c) for c in columns))]
        for name, of in [*((s, [s]) for s in sets), ("mean", sets)]
    ]
    by = {column: cell(sets, column) for column in columns}
    targets = [
        Target(
            f"unseen images after {t:g} s: going on less starting again",
            by[ON, t][0] - by[AGAIN, t][0],
            0.0,
        )
        for t in TIMES
    ]
    targets += [
        Target(
            f"images learned first, {t:g} s later: less than before by",
            by["before", 0.0][1] - by[ON, t][1],
            0.01,
            at_most=True,
        )
        for t in TIMES
    ]
    body = table(["set", *names], rows)
    body += f"\n\nMean Dice on unseen images, in brackets on the {BEFORE} learned first."
    write_report("going_on", "A new image comes to a project", body, {"runs": records}, targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    records = (
        [json.loads(line) for line in STORE.read_text().splitlines()] if STORE.exists() else []
    )
    known = {(r["set"], r["seed"]) for r in records}
    for name in options.sets:
        items = load_set(options.data, name)
        for seed in range(options.seeds):
            if (name, seed) in known:
                continue
            found = [r | {"machine": machine()} for r in measure(name, items, seed)]
            with STORE.open("a") as file:
                file.writelines(json.dumps(r) + "\n" for r in found)
            records += found
            print(name, seed, *(f"{r['way']} {r['seconds']:g} s {r['unseen']:.3f};" for r in found))
    report(records)


if __name__ == "__main__":
    main()
