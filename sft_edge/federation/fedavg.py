"""FedAvg (McMahan et al. 2017): a client has the whole model. The other methods' yardstick."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sft_common.config import OptimizerSpec
from sft_common.errors import ProtocolError, TrainingError
from sft_common.federation.said import Attempt, Finding
from sft_common.federation.tensors import Shapes, shapes_of, trained_of
from sft_edge.federation.done import Done
from sft_edge.federation.material import Check, Material, copy_of_trained, load_into
from sft_edge.learners import Learner, WholeLearner


class FedAvg:
    """Trains the whole model, with a new optimizer in every round.

    Args:
        material: data and model.
    """

    def __init__(self, material: Material) -> None:
        self._material = material
        self._model = material.pretrained.whole(seed=material.plan.seed)

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of all parameters that train."""
        return shapes_of(trained_of(self._model))

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin from an average."""
        load_into(self._model, dict(tensors))

    def begin(self, at: Attempt) -> None:
        """Nothing has to be got ready."""

    def evaluate(self, check: Check) -> Finding:
        """Look what the average is worth on the validation parts."""
        return self._material.evaluate(self._learner().predictions, check)

    def train(self, at: Attempt, check: Check) -> Done:
        """Train for the local epochs; see `Method`."""
        losses = train_epochs(self._material, self._learner(), at, check)
        return Done(
            tensors=copy_of_trained(self._model),
            weight=len(self._material.data.train),
            facts={"losses": losses},
        )

    def calibration_shapes(self, duty: str) -> Shapes:
        """There is no cut to calibrate."""
        raise ProtocolError(f"the cloud asks for {duty}, but the whole model is here")

    def calibrate(self, duty: str, tensors: Mapping[str, Tensor], check: Check) -> Done:
        """There is no cut to calibrate."""
        raise ProtocolError(f"the cloud asks for {duty}, but the whole model is here")

    def end(self) -> None:
        """Nothing has to be ended."""

    def _learner(self) -> WholeLearner:
        material = self._material
        return WholeLearner(self._model, material.head, OptimizerSpec(), material.device)


def train_epochs(material: Material, learner: Learner, at: Attempt, check: Check) -> list[float]:
    """Have a learner take the steps of a round; returns the mean loss of each epoch.

    Args:
        material: of the client.
        learner: new, so that its optimizer is.
        at: the try, which gives the seed.
        check: as of `Method.train`.

    Raises:
        TrainingError: a loss is no number.
    """
    plan = material.plan
    seed = plan.seed_of(at.round, at.number, material.options.client)
    torch.manual_seed(seed)
    rate, step, means = plan.training.learning_rate, 0, []
    for batches in material.epochs(seed):
        losses = []
        for batch in batches:
            check()
            step += 1
            loss = learner.train_step(step, [batch], rate)
            if not math.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at step {step} of round {at.round}")
            losses.append(loss)
        means.append(sum(losses) / len(losses))
    return means
