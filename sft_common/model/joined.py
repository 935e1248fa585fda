"""Both trained halves as one model folder, and back: transformers' own format, safetensors only.

With the cut "none" the folder is a stock model: `AutoModelFor....from_pretrained` loads it without
this project. With any other cut one block has another form, so `split.json` says which, and
`load_joined` loads the folder with one call.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from sft_common.config import SplitSpec
from sft_common.errors import ModelError, first_line
from sft_common.model.cuts import CUT_TABLE
from sft_common.model.heads import meta_model
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1, Net2, cloud_half, edge_half
from sft_common.model.prepared import SPLIT_FILE, write_split
from sft_common.model.tensor_file import save_tensors

CPU = torch.device("cpu")


class JoinedModel(nn.Module):
    """Both halves of a split model in one process."""

    def __init__(self, net1: Net1, net2: Net2) -> None:
        super().__init__()
        self.net1, self.net2 = net1, net2

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the logits; their shape is the head's (heads.py).

        Args:
            inputs: what the tokenizer or image processor gives: `input_ids`, `attention_mask`, ...
        """
        activation_BMW = self.net1(inputs)
        mask_BM = inputs.get("attention_mask", activation_BMW.new_ones(activation_BMW.shape[:2]))
        logits: Tensor = self.net2(activation_BMW, mask_BM)
        return logits


def load_joined(folder: str | Path) -> JoinedModel:
    """Return the model of a folder that `save_joined` wrote with a cut other than "none".

    Raises:
        ModelError: the folder is not one of those, or cannot be read.
    """
    folder = Path(folder)
    try:
        facts = json.loads((folder / SPLIT_FILE).read_text(encoding="utf-8"))
        head, num_labels = str(facts["head"]), int(facts["num_labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} is not a split model's folder ({first_line(error)}); a stock model is "
            "loaded with transformers' from_pretrained"
        ) from error
    pretrained = Pretrained(folder, num_labels=num_labels, head=head)
    split = pretrained.prepared
    assert split is not None
    net1 = pretrained.net1(split)
    half = cloud_half(pretrained.config, split, head)
    pretrained.checkpoint.require(name for name, _ in half.skeleton.named_parameters())
    pretrained.fill_net1(net1)
    net2, _ = pretrained.net2(split, seed=0, device=CPU)
    return JoinedModel(net1, net2).eval()


def save_joined(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: PretrainedConfig,
    split: SplitSpec,
    *,
    head: str,
    labels: Sequence[str] = (),
    num_labels: int,
) -> None:
    """Write both halves into an existing folder: configuration, weights and, if cut, split.json.

    Args:
        folder: where to.
        tensors: of both halves, by stock name.
        config: of the model they came from.
        split: how it was cut.
        head: what it ends in.
        labels: names of the classes, if it has any.
        num_labels: C.

    Raises:
        ModelError: the tensors are not those of the model.
        OSError, SafetensorError: the disk does not take it.
    """
    _check_halves(tensors, config, split, head)
    config = _labelled(config, labels)
    if split.cut == "none":
        _stock_with(tensors, config, head).save_pretrained(folder)
        return
    config.architectures = [type(meta_model(config, head)).__name__]
    config.save_pretrained(folder)
    save_tensors(folder / "model.safetensors", tensors)
    write_split(folder, split, {"head": head, "num_labels": num_labels})


def save_prepared(
    folder: Path,
    pretrained: Pretrained,
    net1: Net1,
    net2: Net2,
    split: SplitSpec,
    healing: Mapping[str, Any],
) -> None:
    """Write a model that was healed for a cut into an existing folder, for both sides to train.

    Tensors that no half trained (other heads of the checkpoint) are taken over; fresh ones are not
    written. Dropout is the model's own.

    Args:
        folder: where to.
        pretrained: the model that was healed.
        net1: its edge half.
        net2: its cloud half.
        split: the cut.
        healing: how it was healed, for people to read.

    Raises:
        ModelError: a tensor of the checkpoint cannot be read.
        OSError, SafetensorError: the disk does not take it.
    """
    checkpoint = pretrained.checkpoint
    tensors: dict[str, Tensor] = {}
    for half in (net1, net2):
        for name, parameter in half.skeleton.named_parameters():
            known = checkpoint.find(name) is not None and checkpoint.shape(name) == parameter.shape
            if ".cut." in name or known:  # else a fresh head, which nobody trained
                tensors[name] = parameter
    gone = {
        f"{net1.block_name}.{path}.weight"
        for path in CUT_TABLE[split.cut].factored(pretrained.family.block)
    }
    tensors |= checkpoint.others(gone | tensors.keys())
    save_tensors(folder / "model.safetensors", tensors)
    shutil.copyfile(checkpoint.folder / "config.json", folder / "config.json")
    write_split(folder, split, {"healing": dict(healing)})


def _check_halves(
    tensors: Mapping[str, Tensor], config: PretrainedConfig, split: SplitSpec, head: str
) -> None:
    """Refuse tensors that are not exactly those of both halves."""
    expected: dict[str, torch.Size] = {}
    for half in (edge_half(config, split, head), cloud_half(config, split, head)):
        expected |= {name: p.shape for name, p in half.skeleton.named_parameters()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        wrong = sorted(found.items() ^ expected.items())[0][0]
        raise ModelError(
            f"these are not both halves of the model: {wrong} has shape "
            f"{tuple(found.get(wrong, ()))}, expected {tuple(expected.get(wrong, ()))}"
        )


def _labelled(config: PretrainedConfig, labels: Sequence[str]) -> PretrainedConfig:
    own = copy.deepcopy(config)
    own.dtype = torch.float32
    if hasattr(own, "tie_word_embeddings"):
        own.tie_word_embeddings = False  # the halves trained a copy each
    if labels:
        own.id2label = dict(enumerate(labels))
        own.label2id = {label: number for number, label in enumerate(labels)}
    return own


def _stock_with(tensors: Mapping[str, Tensor], config: PretrainedConfig, head: str) -> Any:
    model = meta_model(config, head)
    try:
        model.load_state_dict({**_buffers(model), **tensors}, assign=True)
    except RuntimeError as error:
        raise ModelError(f"these are not both halves of the model: {first_line(error)}") from error
    return model


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return persistent buffers, which no half trains and no file needs."""
    names = {name for name, _ in model.named_parameters()}
    return {name: t for name, t in model.state_dict().items() if name not in names}
