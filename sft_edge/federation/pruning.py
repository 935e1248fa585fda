"""Which examples are worth sending: those whose labels a model gets most wrong. Pure torch.

Legend: B batch, C classes, D examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

ROUNDING = 1e-6
"""Of a share times a number of examples: 0.55 x 100 is a little over 55."""


def el2n(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return |softmax(logits) - onehot(label)| of each example, (B,), 0 to sqrt(2).

    The error's Euclidean norm (Paul et al. 2021; SFPrompt, "EL2N score").
    """
    wanted_BC = one_hot(labels_B, logits_BC.shape[1])
    error_BC = logits_BC.softmax(dim=1) - wanted_BC
    return error_BC.square().sum(dim=1).sqrt()


def hardest(scores_D: Tensor, share: float) -> list[int]:
    """Return the numbers of the examples with the largest scores, ascending.

    Args:
        scores_D: of all examples, (D,).
        share: gamma, of them, rounded up; over 0 up to 1. Of equal ones the first stay.
    """
    count = max(1, math.ceil(share * len(scores_D) - ROUNDING))
    order = torch.argsort(scores_D, descending=True, stable=True)
    return sorted(order[:count].tolist())
