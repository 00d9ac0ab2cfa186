"""A run as a script and a command line that repeat it without a window."""

from __future__ import annotations

import shlex
from pathlib import Path

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
    flags = [f"--{key.replace('_', '-')} {value}" for key, value in settings.items()]
    flags = [flag.removesuffix(" True") for flag in flags if not flag.endswith(" False")]
    place = shlex.quote(str(project))
    command = " ".join(["napari-unet train", place, "--out", shlex.quote(name), *flags])
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    note = GONE_ON.format(start=start) if start else ""
    return SCRIPT.format(
        note=note, name=name, command=command, project=str(project), settings=lines
    )
