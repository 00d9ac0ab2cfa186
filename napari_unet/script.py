"""A run as a script and a command line that repeat it without a window."""

from __future__ import annotations

import shlex
from pathlib import Path

from napari_unet.config import TrainConfig

SCRIPT = '''"""Train the model {name!r} again, as in the viewer, from what is painted now.

The same from a shell:

    {command}
"""

import napari_unet as nu

model = nu.train(
    {project!r},
{settings})
model.save({name!r})
'''


def script_of(project: Path, name: str, config: TrainConfig, steps: int) -> str:
    """The script of a run of so many steps on a project; on a CPU it gives the same weights."""
    settings = config.model_dump(exclude_defaults=True, exclude={"seconds"}) | {"steps": steps}
    flags = [f"--{key.replace('_', '-')} {value}" for key, value in settings.items()]
    flags = [flag.removesuffix(" True") for flag in flags if not flag.endswith(" False")]
    place = shlex.quote(str(project))
    command = " ".join(["napari-unet train", place, "--out", shlex.quote(name), *flags])
    lines = "".join(f"    {key}={value!r},\n" for key, value in settings.items())
    return SCRIPT.format(name=name, command=command, project=str(project), settings=lines)
