"""The model that a run goes on from: what is taken over of it, and what it has learned before."""

from __future__ import annotations

import copy

import torch

from napari_unet.annotation import Ends, Item, Region, TrainingSet, region_of
from napari_unet.cards import fingerprint
from napari_unet.config import NetChoice, NetConfig, TrainConfig
from napari_unet.grain import fit_grain
from napari_unet.library import Model
from napari_unet.models import Net, build
from napari_unet.models.pixels import PixelNet
from napari_unet.pictures import numbered
from napari_unet.run import BadInput

Windows = dict[str, tuple[Ends, ...]]  # held out, by image


class Origin:
    """A model that a run begins with, or random weights."""

    def __init__(self, model: Model | None) -> None:
        self._model = model
        current = None if model is None else model.card.current
        self.created = "" if current is None else current.created
        self.steps = 0 if current is None else max(current.steps, current.learned)
        self.learned: dict[str, str] = {}  # fingerprints of images, by their names
        self._windows: Windows = {}
        if model is not None:
            self.learned, self._windows = model.card.images, model.card.windows
        self._names = {digest: name for name, digest in self.learned.items()}

    def build(self, config: TrainConfig, training_set: TrainingSet) -> Net:
        """A net for a training set, with the model's weights."""
        net = build(self._net_config(config, training_set))
        if self._model is not None and not _take_over(net, self._model, training_set.rims):
            self.steps = 0  # it has yet to learn what to answer
        return net

    def adviser(self, device: torch.device) -> PixelNet | None:
        """The model's classifier of pixels, which tells the same things apart if it has learned."""
        if self._model is None or self._model.net.pixels is None:
            return None
        return copy.deepcopy(self._model.net.pixels).to(device)

    def held_out_of(self, item: Item) -> list[Region] | None:
        """What was held out of an image, under whatever name; None if it was not learned before."""
        name = self._names.get(identify(item)) if self._names else None
        return None if name is None else [region_of(ends) for ends in self._windows.get(name, ())]

    def beside(self, images: dict[str, str]) -> tuple[dict[str, str], Windows]:
        """Images that were learned before and are none of these, and what was held out of them."""
        earlier, windows = dict[str, str](), Windows()
        here = set(images.values())
        for name, digest in self.learned.items():
            if digest not in here:
                called = numbered(name, {*images, *earlier})  # another may have its name now
                earlier[called] = digest
                if name in self._windows:
                    windows[called] = self._windows[name]
        return earlier, windows

    def _net_config(self, config: TrainConfig, training_set: TrainingSet) -> NetConfig:
        own = {
            "ndim": training_set.ndim,
            "in_channels": training_set.items[0].image.shape[0],
            "n_classes": training_set.n_values,
        }
        choice = {k: getattr(config, k) for k in NetChoice.model_fields}
        if self._model is None:
            choice["grain"] = config.grain or fit_grain(config, training_set)
            spacing = training_set.spacing if training_set.ndim == 3 else ()
            return NetConfig(**choice, **own, spacing=spacing)
        there = self._model.card.net
        usual = {k: field.default for k, field in NetChoice.model_fields.items()}
        other = [k for k in choice if choice[k] not in (usual[k], getattr(there, k))]
        if other:
            raise BadInput(
                f"Model '{self._model.card.name}' has {other[0]} {getattr(there, other[0])}, not "
                f"{choice[other[0]]}; leave {other[0]} out, or start from random weights."
            )
        if there.ndim != own["ndim"]:
            raise _misfit(self._model, training_set.ndim, own["in_channels"])
        return there.model_copy(update=own | {"pixels": 0.0})


def identify(item: Item) -> str:
    """The image's fingerprint, taken once."""
    if "fingerprint" not in item.cache:
        item.cache["fingerprint"] = fingerprint(item.image)
    found: str = item.cache["fingerprint"]
    return found


def _take_over(net: Net, start: Model, rims: bool) -> bool:
    """Take the weights of another model; whether also its last layer fits, as the classes do."""
    own = net.state_dict()
    fitting = {k: v for k, v in start.weights.items() if k in own and own[k].shape == v.shape}
    if start.card.rims != rims:  # as many outputs may mean other things
        fitting = {k: v for k, v in fitting.items() if not k.startswith("last")}
    if any(k not in fitting and not k.startswith("last") for k in own):
        raise _misfit(start, net.config.ndim, net.config.in_channels)
    net.load_state_dict(own | fitting)
    return all(k in fitting for k in own)


def _misfit(model: Model, ndim: int, channels: int) -> BadInput:
    there = model.card.net
    return BadInput(
        f"Model '{model.card.name}' reads {there.in_channels} channel(s) in {there.ndim}-D, these "
        f"images are {channels} channel(s) in {ndim}-D; start from another model or from random "
        "weights."
    )
