"""The registry of architectures: their names, arguments and how to build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from napari_unet.config import Arch, NetConfig
from napari_unet.models.nested import NestedUNet
from napari_unet.models.unet import Net, Plan, UNet, log2_of
from napari_unet.run import BadInput

__all__ = ["ARCHITECTURES", "Architecture", "Net", "build"]


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry."""

    builder: Callable[[Plan, NetConfig], Net]
    plan: Plan
    description: str


ARCHITECTURES: dict[Arch, Architecture] = {
    "compact": Architecture(
        UNet,
        Plan(width=16, depth=3),
        "A narrow U-Net with group normalisation, fast enough to learn while you paint; on squares "
        "of 2 x 2 pixels, unless what is annotated is too fine for that",
    ),
    "classic": Architecture(
        UNet,
        Plan(width=64, depth=4, norm="none", dropout=0.5),
        "The U-Net as published in 2015, 31 million parameters: slow without a GPU",
    ),
    "simple": Architecture(
        UNet,
        Plan(width=32, depth=3, encoder=1, decoder=1, up="transposed3", norm="layer", head=3),
        "One convolution at each of four levels",
    ),
    "upsample": Architecture(
        UNet,
        Plan(width=32, depth=2, up="nearest", norm="batch"),
        "Two poolings and nearest-neighbour upsampling: sees little context, leaves no grid",
    ),
    "nested": Architecture(
        NestedUNet,
        Plan(width=16, depth=4),
        "U-Net++: nested skip connections, judged at every depth; several times slower",
    ),
}


def build(config: NetConfig) -> Net:
    """Make the network a configuration asks for, with random weights."""
    architecture = ARCHITECTURES[config.arch]
    width, depth = config.width or architecture.plan.width, config.depth or architecture.plan.depth
    pooled = depth - log2_of(config.grain)
    if pooled < 1:
        raise BadInput("With a grain of 2 the first halving is taken; give a depth of at least 2.")
    plan = replace(
        architecture.plan,
        width=width,
        depth=pooled,
        attention=config.attention,
        residual=config.residual,
    )
    complete = config.model_copy(update={"width": width, "depth": depth})
    return architecture.builder(plan, complete)
