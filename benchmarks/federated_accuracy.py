"""What an average of a federation is worth on a whole validation part, in one process.

The halves or parts are put together again as the library makes them; what would travel between them
is rounded as it would be. No client is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sft_cloud.federation.file import Written
from sft_cloud.federation.state import State
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE, logits_of
from sft_common.model.joined import JoinedModel
from sft_common.model.loading import Pretrained
from sft_common.model.parting import Parting
from sft_common.wire.encodings import ENCODING_TABLE
from sft_edge.federation.material import load_into
from sft_edge.tasks.batches import Dataset
from sft_edge.tasks.data import TaskData, prepare_data, read_rows_of
from sft_edge.tasks.kinds import encoder_for
from sft_edge.tasks.table import TASKS

CPU = torch.device("cpu")

BATCH_SIZE = 64

Model = Callable[[dict[str, Tensor]], Tensor]
"""Inputs -> logits (B, C)."""


def data_of(
    written: Written, task: str, folder: Path, train_limit: int, eval_limit: int | None
) -> TaskData:
    """Return the data of a federation as its model takes them.

    Args:
        written: the federation.
        task: the name of what is learned.
        folder: holds train and validation.
        train_limit: use only the first so many.
        eval_limit: the same of the validation part; None: all.
    """
    known = TASKS[task].with_labels(written.plan.labels)
    rows = read_rows_of(known, folder, train_limit=train_limit, eval_limit=eval_limit)
    encoder = encoder_for(
        rows.task,
        written.source.folder,
        written.pretrained,
        shape_of(written.pretrained.config),
        max_length=None,
        data=folder,
    )
    return prepare_data(rows, encoder)


def model_of(written: Written, state: State) -> Model:
    """Return the whole model that an average of a federation is."""
    plan, pretrained = written.plan, written.pretrained
    if plan.method == "fedavg":
        return _whole(pretrained, plan.seed, state)
    if plan.tail is not None:
        return _parts(written, state)
    assert plan.cut is not None
    net1 = pretrained.net1(plan.cut.split)
    pretrained.fill_net1(net1, state.clients)
    net2, _ = pretrained.net2(plan.cut.split, seed=plan.seed, device=CPU, trained=state.cloud)
    joined = JoinedModel(net1, net2).eval()
    return lambda inputs: joined(**inputs)


@torch.no_grad()
def right_answers(model: Model, head: str, data: Dataset) -> list[bool]:
    """Return which examples of a part a model gets right, in their order."""
    lengths = data.all_lengths()
    order = sorted(range(len(lengths)), key=lengths.__getitem__)  # so that little is padding
    right = [False] * len(order)
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        batch = data.batch(rows)
        verdict = HEAD_TABLE[head].verdict(model(batch.inputs), batch.mask, None)
        for row, found, label in zip(rows, verdict.argmax(dim=1), batch.labels, strict=True):
            right[row] = int(found) == label
    return right


def _whole(pretrained: Pretrained, seed: int, state: State) -> Model:
    whole = pretrained.whole(seed=seed)
    load_into(whole, dict(state.clients))
    whole.eval()
    return lambda inputs: logits_of(whole(**inputs))


def _parts(written: Written, state: State) -> Model:
    plan = written.plan
    assert plan.cut is not None and plan.tail is not None
    code = {n: t for n, t in _all(state).items() if ".cut." in n}
    parting = Parting(written.pretrained, plan.parts, code)
    body, up, down = parting.body(), plan.cut.encoding, plan.tail.encoding

    def travelled(activation_BMW: Tensor, attention_mask_BM: Tensor) -> Tensor:
        return rounded(body(rounded(activation_BMW, up), attention_mask_BM), down)

    parts = parting.parts(seed=plan.seed, body=travelled)
    parts.load(dict(state.clients))
    parts.eval()
    return lambda inputs: parts(inputs)


def rounded(rows: Tensor, encoding: str) -> Tensor:
    """Return rows as they come out of an encoding, of the same shape (..., W)."""
    coder, flat_TW = ENCODING_TABLE[encoding], rows.flatten(end_dim=-2)
    return coder.decode(coder.encode(flat_TW), flat_TW.shape[1]).view_as(rows)


def _all(state: State) -> Mapping[str, Tensor]:
    return {**state.given, **state.code, **state.clients}
