"""The last weights that were good, and the way back to them when a loss is no longer a number."""

from __future__ import annotations

from napari_unet.best import finite
from napari_unet.learner import Learner

BACKUP_STEPS = 50
MOST_FALLS = 5  # from one and the same footing


class Footing:
    """Copies of the weights, taken now and then."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.step = 0  # after which they were taken; 0 is where the run began
        self._falls = 0
        self.renew()

    def renew(self) -> None:
        """Stand where the learner is now."""
        self._weights, self.step = self._learner.weights(), self._learner.step

    def stood(self, step: int) -> None:
        """The loss of a step was a number; now and then its weights are kept."""
        if step % BACKUP_STEPS:
            return
        # The step after this one has been taken already, and may be the one that diverged.
        weights = self._learner.weights()
        if all(map(finite, weights)):
            self._weights, self.step, self._falls = weights, step, 0

    def go_back(self) -> bool:
        """Learn from the last good weights, half as fast; whether that is still worth a trial."""
        self._falls += 1
        self._learner.start_again_from(self._weights, self._learner.rate / 2)
        return self._falls <= MOST_FALLS
