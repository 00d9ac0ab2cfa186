"""One step of learning: patches, warp, light, net, loss, update, average; no budget, no events."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_unet.adviser import Adviser, agreed
from napari_unet.annotation import TrainingSet
from napari_unet.augment import draw_warp, vary_light, warp_batch, warp_grid
from napari_unet.config import BACKGROUND, MAX_AUGMENT, TrainConfig
from napari_unet.device import Numerics
from napari_unet.losses import class_weights, hint_loss, segmentation_loss
from napari_unet.models import Net
from napari_unet.models.pixels import as_probabilities
from napari_unet.optimiser import Optimiser
from napari_unet.patches import Sampler, Spot, cut
from napari_unet.run import FIRST_GUESS

PATCH = {1: 128, 2: 192}  # by the grain: on a coarse grid pixels cost less
AVERAGE = 0.99  # of the weights; less at the beginning
# From so many steps on a net may know its images too well; augmentation then grows with the steps,
KNOWN = 150
MORE_VARIED = 2.0  # but not to more than so many times its strength
FEEDBACK_STEPS = 4  # often enough, and a GPU need not be waited for at each step

Weights = dict[str, Tensor]


class Learner:
    """A net that learns, the moving average of its weights, and everything random about a step."""

    def __init__(
        self,
        net: Net,
        config: TrainConfig,
        sampler: Sampler,
        numerics: Numerics,
        adviser: Adviser,
        before: int = 0,
    ) -> None:
        """The net has learned for so many steps already."""
        self.config, self.sampler, self.numerics = config, sampler, numerics
        self.set, self.adviser, self.before = sampler.set, adviser, before
        self.net: Net = numerics.place(net).train()
        self.average: Net = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.rate = config.rate
        self.optimiser = Optimiser(self.net, self.rate, config.decay)
        self.scaler = torch.amp.GradScaler(numerics.device.type, enabled=numerics.scaled)
        self.rng = np.random.default_rng(config.seed)
        self.random = torch.Generator(numerics.device).manual_seed(config.seed)
        self.patch = patch_shape(config.patch or PATCH[net.config.grain], self.set, net.stride)
        # A volume's patch has more neighbours in each voxel's reach, and more voxels.
        self.batch = config.batch if self.set.ndim == 2 else max(1, config.batch // 4)
        self.step = 0

    @property
    def pixels(self) -> int:
        """Pixels in one step."""
        return self.batch * math.prod(self.patch)

    def learn(self, part_of_rate: float) -> Tensor:
        """Take one step; its loss on what is labelled, which is not waited for."""
        spots = self.sampler.draw(self.batch, tuple(p // 3 for p in self.patch))
        x, target, weights, hints = self._batch(spots)
        self.optimiser.rate = self.rate * part_of_rate
        with self.numerics.autocast():
            logits = self.net(x)
        loss = segmentation_loss(
            logits,
            target,
            kind=self.config.loss,
            class_weights=self._class_weights(),
            pixel_weights=weights,
        )
        told = torch.zeros_like(loss) if hints is None else hint_loss(logits, target, hints)
        self.zero_grad()
        self.scaler.scale(loss + told).backward()
        self.scaler.step(self.optimiser)  # type: ignore[arg-type]
        self.scaler.update()
        self._update_average()
        if self.step % FEEDBACK_STEPS == 0:
            finest = logits[0] if isinstance(logits, list) else logits
            self.sampler.feedback(spots, wrongness(finest.detach(), target).cpu().numpy())
        self.step += 1
        return loss.detach()

    def zero_grad(self) -> None:
        self.optimiser.zero_grad()

    def shrink(self) -> bool:
        """Make the step need about half the memory; whether it still could."""
        if self.batch > 1:
            self.batch //= 2
            return True
        half = zip(self.patch, self.net.stride, strict=True)
        smaller = tuple(max(s, p // 2 // s * s) for p, s in half)
        if max(self.patch) <= 32 or smaller == self.patch:
            return False
        self.patch = smaller
        return True

    def weights(self) -> tuple[Weights, Weights]:
        """Copies of the weights and of their average."""
        return copied(self.net.state_dict()), copied(self.average.state_dict())

    def start_again_from(self, weights: tuple[Weights, Weights], rate: float) -> None:
        """Go back to earlier weights, with another rate and no momentum."""
        self.net.load_state_dict(weights[0])
        self.average.load_state_dict(weights[1])
        self.rate = rate
        self.optimiser = Optimiser(self.net, rate, self.config.decay)

    @property
    def _learned(self) -> int:
        """Steps, with those of the model that is gone on from."""
        return self.before + self.step

    @property
    def _strength(self) -> float:
        """Of augmentation, which grows where brightness and colour tell nearly all of the masks.

        There a net soon knows those of its images, and what it then learns is wrong for others.
        """
        strength = self.config.augment
        if not self.adviser.clear:
            return strength
        more = min(MORE_VARIED, max(1.0, self._learned / KNOWN))
        return min(MAX_AUGMENT, strength * more)

    def _batch(self, spots: list[Spot]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        strength = self._strength
        warp = draw_warp(self.rng, len(spots), self.patch, strength, self.set.spacing)
        crops = cut(spots, warp.crop, self.sampler.closed, self.adviser.hints)
        grid = warp_grid(warp, warp.crop, self.random, self.numerics.device)
        x, hints = self._send(crops.images), self._send(crops.hints)
        channels = x.shape[1]
        if hints is not None:  # they go the same way
            x = torch.cat([x, hints], 1)
        x, target, weights = warp_batch(
            x, self._send(crops.labels), self._send(crops.weights), grid
        )
        x, hints = x[:, :channels], None if hints is None else x[:, channels:]
        if hints is not None and self._learned >= FIRST_GUESS:
            hints = agreed(hints, self._own(x), self._learned)
        x = vary_light(x, strength, self.random, self.rng)
        return self._laid_out(x), target, weights, hints

    @torch.no_grad()
    def _own(self, x: Tensor) -> Tensor:
        """What the averaged weights say of a batch, as probabilities."""
        with self.numerics.autocast():
            logits = self.average(self._laid_out(x))
        return as_probabilities(logits)

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=self.numerics.layout(self.set.ndim))

    def _send(self, array: np.ndarray | None) -> Any:
        if array is None:
            return None
        return torch.from_numpy(array).to(self.numerics.device, non_blocking=True)

    def _class_weights(self) -> Tensor | None:
        # How much of a class was painted here and there does not say how much of it there is.
        if not self.config.balance and not self.sampler.sparse:
            return None
        return class_weights(self.sampler.totals.tolist()).to(self.numerics.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        mine: list[Tensor] = list(self.average.parameters())
        theirs: list[Tensor] = list(self.net.parameters())
        torch._foreach_lerp_(mine, theirs, 1 - keep)
        for a, b in zip(self.average.buffers(), self.net.buffers(), strict=True):
            a.copy_(b)

    def state(self) -> tuple[Weights, dict[str, Any]]:
        """Everything that going on needs, as tensors and as plain values."""
        # Dropout draws from PyTorch's own generator.
        tensors = {"random": self.random.get_state(), "dropout": torch.get_rng_state()}
        tensors |= {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"optimiser.{k}": v for k, v in self.optimiser.state().items()}
        plain = {
            "step": self.step,
            "rate": self.rate,
            "batch": self.batch,
            "patch": self.patch,
            "rng": self.rng.bit_generator.state,
            "scaler": self.scaler.state_dict(),
        }
        return tensors, plain

    def restore(self, tensors: Weights, plain: dict[str, Any]) -> None:
        self.step, self.rate, self.batch = plain["step"], plain["rate"], plain["batch"]
        self.patch = tuple(plain["patch"])
        self.rng.bit_generator.state = plain["rng"]
        self.scaler.load_state_dict(plain["scaler"])
        self.random.set_state(tensors["random"])
        torch.set_rng_state(tensors["dropout"])
        self.net.load_state_dict(under("net.", tensors))
        self.average.load_state_dict(under("average.", tensors))
        self.optimiser.restore(under("optimiser.", tensors))


def copied(weights: Weights) -> Weights:
    """Weights that later steps leave alone."""
    return {k: v.clone() for k, v in weights.items()}


def under(prefix: str, tensors: Weights) -> Weights:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def wrongness(logits: Tensor, target: Tensor) -> Tensor:
    """How wrong each patch is, 0 to 1, from every fourth pixel along each axis: (B,).

    Not a number where nothing is labelled among these.
    """
    few = (slice(None, None, 4),) * (target.ndim - 1)
    z, t = logits[(slice(None), slice(None), *few)].float(), target[(slice(None), *few)].long()
    truth = torch.where(t == BACKGROUND, 0, t)
    if z.shape[1] == 1:
        right = torch.sigmoid(torch.where(truth > 0, z[:, 0], -z[:, 0]))
    else:
        right = torch.softmax(z, 1).gather(1, truth[:, None])[:, 0]
    known = t > 0
    return ((1 - right) * known).flatten(1).sum(1) / known.flatten(1).sum(1)


def patch_shape(edge: int, training_set: TrainingSet, stride: tuple[int, ...]) -> tuple[int, ...]:
    """The patch along each axis: smaller in volumes, along coarse axes, and in small images."""
    ndim = training_set.ndim
    edge = edge if ndim == 2 else edge * 3 // 8
    spacing = (training_set.spacing if ndim == 3 else ()) or (1.0,) * ndim
    largest = np.max([i.annotation.shape for i in training_set.items], 0).tolist()
    wanted = (min(n, edge * min(spacing) / s) for n, s in zip(largest, spacing, strict=True))
    return tuple(math.ceil(w / s) * s for w, s in zip(wanted, stride, strict=True))
