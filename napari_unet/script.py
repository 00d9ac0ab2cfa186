"""A run as a script and a command line that repeat it without a window."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_unet.config import TrainConfig

SCRIPT = """# Train the model again, as in the viewer, from what is painted now.{note}
# The same from a shell:
#
#     {command}

import napari_unet as nu

model = nu.train(
    {project!r},
{settings})
model.save({name!r})
"""
GONE_ON = "\n# The run went on from {start!r}; this one begins with new weights."


def script_of(project: Path, name: str, config: TrainConfig, steps: int, start: str = "") -> str:
    """The script of a run of so many steps on a project; on a CPU it gives the same weights.

    What is not repeated is said: weights that the run started from.
    """
    settings = config.model_dump(exclude_defaults=True, exclude={"seconds"}) | {"steps": steps}
    place = shlex.quote(str(project))
    command = " ".join(["napari-unet train", place, "--out", shlex.quote(name), *_flags(settings)])
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    note = GONE_ON.format(start=start) if start else ""
    return SCRIPT.format(
        note=note, name=name, command=command, project=str(project), settings=lines
    )


def _flags(settings: dict[str, Any]) -> Iterator[str]:
    """Settings that differ from the defaults, for a command line."""
    for key, value in settings.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name} {value}"
