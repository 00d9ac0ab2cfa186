"""The version and the headless API, which is loaded when it is first asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.api import (
        export_labels,
        export_model,
        export_nnunet,
        load_model,
        predict,
        train,
    )

__version__ = "0.1.0"

# Where the system has huge pages, PyTorch takes large tensors from them: prediction is 1.5 times
# as fast, training a tenth. PyTorch reads this at its first tensor; elsewhere it means nothing.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__all__ = ["export_labels", "export_model", "export_nnunet", "load_model", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from napari_unet import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
