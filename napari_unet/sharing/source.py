"""The networks as one source file for others, which needs PyTorch and not this package."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

from napari_unet import __version__, models
from napari_unet.models import nested, norm, outputs, pixels, unet

# No annotation is a string in this file: dataclasses look such up in a module that may be unlisted.
HEAD = f'''"""The network of a napari-unet model, in one file that needs PyTorch alone.

network(...) makes it; a state dict fills it. From napari-unet {__version__}.
SPDX-License-Identifier: BSD-3-Clause
Copyright (c) 2026, The napari-unet developers
"""


class BadInput(ValueError):
    """Something that was given cannot be used."""


Arch = str


class NetConfig:
    """The settings of a network."""

    def __init__(self, **settings):
        vars(self).update(settings)

    @property
    def n_logits(self):
        return 1 if self.n_classes == 1 else self.n_classes + 1

    def model_copy(self, update):
        return NetConfig(**{{**vars(self), **update}})
'''


def network_source() -> str:
    """The text of the file; `network` in it makes a network that gives probabilities."""
    parts = [_body(module) for module in (norm, pixels, unet, nested, models, outputs)]
    return "\n\n".join([HEAD, *parts])


def _body(module: ModuleType) -> str:
    """A module without what opens it, and without what it imports from this package."""
    text = inspect.getsource(module)
    lines = text.splitlines()
    for node in ast.parse(text).body:
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("napari_unet", "__future__")
        )
        if ours or isinstance(node, ast.Expr):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return "\n".join(lines).strip() + "\n"
