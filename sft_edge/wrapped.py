"""A script's model that gives up what is above the cut: its forward asks elsewhere for the logits.

It knows stock models and heads; it knows no session.

Legend: B batch, M padded length, T real tokens, W width on the wire, C classes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import modeling_outputs as outputs

from sft_common.autocast import Autocast
from sft_common.errors import ConfigError, DataError
from sft_common.model.heads import HEAD_TABLE, IGNORED, Head
from sft_common.model.partition import Net1
from sft_common.wire.packing import pack, spread

Ask = Callable[[Tensor, list[int]], Tensor]
"""(activation (T, W), lengths of B examples) -> logits without padding, (B, C) or (T, C)."""

AskLoss = Callable[[Tensor, list[int], list[float]], Tensor]
"""(activation (T, W), lengths, flat labels) -> the mean loss, a scalar."""

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "pixel_values"})
"""What a model is called with beside its labels."""

LABELS = frozenset({"labels", "start_positions", "end_positions"})

BESIDE = frozenset({"return_dict", "use_cache", "num_items_in_batch"})
"""What else it may be called with; of the last, the Trainer's, the loss is the share."""

OUTPUTS: Mapping[str, Any] = {
    "sequence-classification": outputs.SequenceClassifierOutput,
    "regression": outputs.SequenceClassifierOutput,
    "token-classification": outputs.TokenClassifierOutput,
    "question-answering": outputs.QuestionAnsweringModelOutput,
    "causal-lm": outputs.CausalLMOutput,
    "image-classification": outputs.ImageClassifierOutput,
}
"""Head -> what a stock model with it returns."""


@torch.no_grad()
def heeds_items(model: Any, head: str) -> bool:
    """Return whether a stock model divides its loss by `num_items_in_batch`; some pass it over.

    Args:
        model: still whole; left in the mode that it was in.
        head: what it ends in.
    """
    config, kind = model.config, HEAD_TABLE[head].labels
    inputs = {"input_ids": torch.ones(1, 4, dtype=torch.int64)}
    if model.main_input_name == "pixel_values":
        size = config.image_size
        inputs = {"pixel_values": torch.zeros(1, config.num_channels, size, size)}
    one = torch.zeros(1, 4) if kind == "tokens" else torch.zeros(1)
    names = ("start_positions", "end_positions") if kind == "span" else ("labels",)
    labels = {name: one if kind == "number" else one.long() for name in names}
    given = {name: value.to(model.device) for name, value in (inputs | labels).items()}
    training = model.training
    model.eval()
    try:
        first, second = (model(**given, num_items_in_batch=n).loss for n in (1, 3))
    except TypeError:  # it takes nothing beside its own arguments
        return False
    finally:
        model.train(training)
    return bool(first != second)


def give_up(
    model: Any,
    net1: Net1,
    head: str,
    ask: Ask,
    ask_loss: AskLoss | None,
    *,
    spared: bool,
    heeds: bool,
) -> None:
    """Have a model's forward compute net1 here and ask for the rest.

    Args:
        model: what `net1` was made of, in place.
        net1: with its numbers.
        head: what the model ended in.
        ask: gets the logits.
        ask_loss: gets the loss of a training step in one exchange, for which labels travel; None:
            they do not, and the loss is computed here.
        spared: whether net1 has no dropout even in training mode (docs/decisions/0008).
        heeds: what `heeds_items` says of the model.
    """
    stock = model.forward
    signature = inspect.signature(stock)
    backbone = net1.skeleton.get_submodule(net1.skeleton.base_model_prefix)

    @functools.wraps(stock)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = _given(signature, args, kwargs)
        inputs = {name: value for name, value in given.items() if name in INPUTS}
        backbone.train(model.training and not spared)
        activation_BMW = net1(inputs)
        mask_BM = _mask(inputs, activation_BMW)
        lengths = mask_BM.sum(dim=1).tolist()
        activation_TW = pack(activation_BMW, mask_BM)
        as_tuple = given.get("return_dict") is False
        labels = _flat_labels(head, model, given, mask_BM)
        trains = model.training and torch.is_grad_enabled() and _takes_factors(activation_TW)
        if labels is not None and ask_loss and trains:
            found = ask_loss(activation_TW, lengths, labels.tolist()).to(activation_BMW.device)
            if heeds:
                found = found * _share(head, labels, given)
            return _output(head, found, None, as_tuple=as_tuple)
        rows = ask(activation_TW, lengths).to(activation_BMW.device)
        logits = spread(rows, mask_BM) if HEAD_TABLE[head].per_token else rows
        loss = None
        if labels is not None:
            loss = HEAD_TABLE[head].loss(logits, labels.to(logits.device), mask_BM)
            loss = loss * _share(head, labels, given) if heeds else loss
        return _output(head, loss, logits, as_tuple=as_tuple)

    model.forward = forward


def _takes_factors(activation: Tensor) -> bool:
    """Return whether a loss may be scaled behind net2's backward pass, not before it.

    In float16 its gradients would be too small for numbers by then.
    """
    autocast = Autocast.around(activation)
    return autocast is None or autocast.computes != "float16"


def _given(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return what a model was called with.

    Raises:
        ConfigError: something that cannot be done where half of the model is elsewhere.
    """
    given = dict(signature.bind(*args, **kwargs).arguments)
    for name in [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]:
        given |= given.pop(name, {})
    known = {name for name, value in given.items() if value is not None and value is not False}
    if beyond := known - INPUTS - LABELS - BESIDE:
        raise ConfigError(
            f"a split model takes no {min(beyond)}: half of it is on the cloud; it takes "
            f"{', '.join(sorted(INPUTS | LABELS))}"
        )
    return {name: value for name, value in given.items() if value is not None}


def _mask(inputs: Mapping[str, Tensor], activation_BMW: Tensor) -> Tensor:
    """Return which tokens are real, (B, M)."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return torch.ones(activation_BMW.shape[:2], dtype=torch.bool, device=activation_BMW.device)
    if mask.ndim != 2:
        raise ConfigError(
            f"attention_mask has {mask.ndim} dimensions; a split model takes (batch, tokens)"
        )
    if not bool(mask.any(dim=1).all()):
        raise DataError("an example of the batch has no token: its attention_mask is all 0")
    return mask.bool()


def _flat_labels(name: str, model: Any, given: Mapping[str, Any], mask_BM: Tensor) -> Tensor | None:
    """Return the labels that a model was called with as its head takes them, flat; None: none.

    Raises:
        ConfigError: a loss that is not offered; a criterion of one's own is always possible.
    """
    head = HEAD_TABLE[name]
    labels = _labels(head, given)
    if labels is None:
        return None
    if getattr(model.config, "problem_type", None) == "multi_label_classification":
        raise ConfigError(
            "a split model computes no loss for problem_type multi_label_classification; call it "
            "without labels, and a criterion with its logits"
        )
    if head.labels == "tokens":
        return labels[mask_BM]
    return labels.flatten().to(torch.float32 if head.labels == "number" else torch.int64)


def _share(name: str, labels: Tensor, given: Mapping[str, Any]) -> float:
    """Return the share of a batch in a loss that is the mean over several."""
    items = given.get("num_items_in_batch")
    if items is None:
        return 1.0
    return HEAD_TABLE[name].weight(labels.tolist()) / float(items)


def _labels(head: Head, given: Mapping[str, Any]) -> Tensor | None:
    """Return labels as they belong to the logits: (B,), (B, 2) or (B, M)."""
    if head.labels == "span":
        first, last = given.get("start_positions"), given.get("end_positions")
        return None if first is None or last is None else torch.stack([first, last], dim=1)
    labels: Tensor | None = given.get("labels")
    if labels is None or not head.next_token:
        return labels
    following = labels.new_full(labels.shape, IGNORED)
    following[:, :-1] = labels[:, 1:]
    return following


def _output(name: str, loss: Tensor | None, logits: Tensor | None, *, as_tuple: bool) -> Any:
    parts = {"loss": loss, "logits": logits}
    if name == "question-answering":
        first, last = (None, None) if logits is None else logits.unbind(dim=-1)
        parts = {"loss": loss, "start_logits": first, "end_logits": last}
    output = OUTPUTS[name](**parts)
    return output.to_tuple() if as_tuple else output
