"""What is asked: frozen settings; every flag, form, tooltip and model file is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

UNLABELLED = 0
BACKGROUND = 255
MAX_CLASSES = 254
MAX_AUGMENT = 3.0

# Okabe and Ito's palette, readable with every common colour blindness; it repeats after eight.
PALETTE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#999999",
)

Arch = Literal["compact", "classic", "simple", "upsample", "nested"]
Device = str  # "auto", "cpu", "cuda", "cuda:1", "mps"
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class Frozen(BaseModel):
    """Settings that cannot change once made and refuse a field they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SegClass(Frozen):
    """One class of a segmentation; its number is its place in the class table, from 1."""

    name: str = Field(description="What the class is called in tables and exported masks")
    color: str = Field(
        pattern=r"^#[0-9a-fA-F]{6}$", description="Colour of the class in overlays, as #rrggbb"
    )


def class_table(names: int | Sequence[str | SegClass]) -> tuple[SegClass, ...]:
    """The classes 1..N from their number or their names, coloured for colour-blind eyes.

    What is a class already stays as it is.
    """
    if isinstance(names, int):
        names = ["foreground"] if names == 1 else [f"class {i}" for i in range(1, names + 1)]
    return tuple(
        name if isinstance(name, SegClass) else SegClass(name=name, color=PALETTE[i % len(PALETTE)])
        for i, name in enumerate(names)
    )


Role = Literal["both", "train", "hold out"]  # what an image's annotation is for


class NetChoice(Frozen):
    """Which network: an architecture and its arguments; None means its own, or what fits."""

    arch: Arch = Field("compact", description="Architecture of the network")
    width: int | None = Field(
        None, ge=1, le=512, description="Channels of the first level; they double at each level"
    )
    depth: int | None = Field(None, ge=1, le=8, description="Times the resolution is halved")
    grain: int | None = Field(
        None,
        ge=1,
        le=2,
        description="Edge of the squares of pixels that the network works on: with 2 it is faster, "
        "but draws nothing finer; none fits it to what is annotated, if the network is compact",
    )
    attention: bool = Field(False, description="Gate each skip connection by attention")
    residual: bool = Field(False, description="Add a shortcut around each convolution block")


class NetConfig(NetChoice):
    """A network, complete: enough to build it again and fill in its weights."""

    ndim: Literal[2, 3] = Field(2, description="2 for planes, 3 for volumes")
    in_channels: int = Field(1, ge=1, le=4096, description="Image channels the network reads")
    n_classes: int = Field(
        1, ge=1, le=MAX_CLASSES, description="Classes it tells apart, background not counted"
    )
    grain: int = Field(1, ge=1, le=2, description="Edge of the squares that it works on")
    # Voxel edges relative to the finest one: an axis twice as coarse is halved one time less.
    spacing: tuple[float, ...] = Field((), description="Voxel edges, coarse axes larger; 3-D only")
    pixels: float = Field(
        0.0, ge=0, le=1, description="Share that a classifier of pixels has in the answer"
    )

    @property
    def n_logits(self) -> int:
        """One logit and a sigmoid for one class; background and N classes, softmax, for more."""
        return 1 if self.n_classes == 1 else self.n_classes + 1


class TrainConfig(NetChoice):
    """How to train. The defaults learn from a handful of annotations in seconds on a laptop."""

    seconds: float | None = Field(None, gt=0, description="Stop after so many seconds")
    steps: int | None = Field(None, ge=1, description="Stop after so many steps")
    batch: int = Field(
        4, ge=1, le=1024, description="Patches in one step; of volumes a quarter of them"
    )
    patch: int | None = Field(
        None,
        ge=16,
        le=4096,
        description="Edge of a patch, in pixels, of volumes 3/8 of it; none fits it to grain",
    )
    rate: float = Field(0.02, gt=0, le=1, description="Learning rate")
    decay: float = Field(1e-2, ge=0, le=1, description="Weight decay")
    augment: float = Field(
        1.0,
        ge=0,
        le=MAX_AUGMENT,
        description="Strength of augmentation, at first; 0 turns it off. It may double later, with "
        "a second opinion",
    )
    loss: Literal["both", "cross-entropy", "dice"] = Field(
        "both", description="Cross-entropy, Dice, or their sum"
    )
    balance: bool = Field(
        False,
        description="Let rare classes weigh more in the loss, as they do while little is painted",
    )
    second_opinion: bool = Field(
        True,
        description="Let a classifier of pixels give hints, the first mask and a part of the "
        "answer: better where little is annotated, but predictions take longer",
    )
    border: float = Field(
        0.0, ge=0, le=50, description="Extra weight between touching objects, if labels are objects"
    )
    holdout: float = Field(
        0.2, ge=0, le=0.5, description="Share of the annotation held out to judge by; 0 for none"
    )
    patience: int = Field(
        600, ge=1, description="Steps without progress after which open-ended training rests"
    )
    seed: int = Field(0, ge=0, description="Seed of everything random")
    device: Device = Field("auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Precision = Field("auto", description="Number format; auto measures which is faster")


class PredictConfig(Frozen):
    """How to predict."""

    tile: int | None = Field(
        None, ge=16, description="Edge of a tile in pixels; none fits it to the memory"
    )
    head: int | None = Field(
        None, ge=1, description="For U-Net++: a shallower head, faster; none averages all"
    )
    flips: bool = Field(False, description="Average over mirror images: slower, a little better")
    probabilities: bool = Field(False, description="Give the class probabilities as well")
    uncertainty: bool = Field(False, description="Give the uncertainty (entropy, 0 to 1) as well")
    device: Device = Field("auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Precision = Field("auto", description="Number format; auto measures which is faster")
    focus: tuple[int, ...] | None = Field(
        None, description="Predict the tiles around this position first"
    )


class Credits(Frozen):
    """Who made a model that is given away, and on which terms."""

    authors: tuple[str, ...] = Field((), description="Who made the model; can be given repeatedly")
    license: str | None = Field(None, description="Licence as SPDX names it, such as CC-BY-4.0")
    cite: tuple[str, ...] = Field(
        (), description="DOI of a publication to cite, such as 10.1000/182; also repeatedly"
    )
