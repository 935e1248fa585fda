"""One contender of step.py: an edge that takes a training step whenever it is told to.

    python -m benchmarks.step_edges NAME --model DIR --lengths FILE --server HOST:PORT ...

It reads numbers of batches from its input, one a line, and answers each with the seconds that its
step took. The model is real, only what is behind the wire is not (null_cloud.py, step_clouds.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.null_cloud import null_shape, null_spec
from benchmarks.step_clouds import EXPERT, rpc_step
from sft_common.config import OptimizerSpec, SplitSpec
from sft_common.model.adamw import adamw, set_learning_rate
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.plan import micro_batches
from sft_common.wire.packing import mask_of
from sft_edge.client import GrpcSession
from sft_edge.learners import SplitLearner, WholeLearner
from sft_edge.pacing import Pacing
from sft_edge.remote import Closing
from sft_edge.tasks.batches import Batch, Labels
from sft_edge.traffic import Traffic

PADDED = 66
"""Tokens to which the paper pads."""

RATE = 2e-5

Step = Callable[[int], None]
"""Takes a step with the batch of a number."""


class Echo:
    """A cloud in this process that needs no time: the gradient is the activation."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._under_way: deque[Tensor] = deque()

    def begin_step(
        self,
        step: int,
        activation_TW: Tensor,
        lengths: Sequence[int],
        labels: Labels,
        *,
        micro_batch: int = 0,
        share: float = 1.0,
    ) -> None:
        """Take an activation."""
        self._under_way.append(activation_TW)

    def end_step(self) -> tuple[float, Tensor]:
        """Give the oldest back."""
        return 0.0, self._under_way.popleft()

    def apply(self, step: int, learning_rate: float, *, micro_batches: int = 1) -> None:
        """Do nothing."""

    def begin_evaluation(
        self, activation_TW: Tensor, lengths: Sequence[int], labels: Sequence[int] = ()
    ) -> None:
        """Do nothing."""

    def end_evaluation(self) -> Tensor:
        """Never called."""
        raise NotImplementedError

    def close(self) -> Closing:
        """Do nothing."""
        return Closing(0, False)


class Setting:
    """What contenders are made of.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.batches: list[list[int]] = json.loads(options.lengths.read_text())
        self.pretrained = Pretrained(
            options.model, num_labels=2, head="sequence-classification", dropout=None
        )

    def net1(self, cut: str) -> Net1:
        """Return the edge half of a cut; the numbers of the cut itself are small and random."""
        split = SplitSpec(cut=cut, split_layer=self.options.split_layer, rank=self.options.rank)
        net1 = self.pretrained.net1(split)
        self.pretrained.fill_net1(net1)
        for parameter in net1.block.cut.parameters():
            nn.init.normal_(parameter.data, std=0.02)
        return net1

    def width(self, cut: str) -> int:
        """Return W of a cut."""
        split = SplitSpec(cut=cut, split_layer=self.options.split_layer, rank=self.options.rank)
        return split.wire_width(shape_of(self.pretrained.config))

    def batch(self, number: int, *, padded: bool, rows: Sequence[int] | None = None) -> Batch:
        """Return a batch, or some rows of it, of random tokens of the given lengths."""
        known = self.batches[number % len(self.batches)]
        lengths = [PADDED if padded else known[row] for row in rows or range(len(known))]
        mask_BM = mask_of(lengths, max(lengths))
        generator = torch.Generator().manual_seed(number)
        tokens_BM = torch.randint(1000, 20_000, mask_BM.shape, generator=generator) * mask_BM
        inputs = {
            "input_ids": tokens_BM,
            "token_type_ids": torch.zeros_like(tokens_BM),
            "attention_mask": mask_BM.long(),
        }
        return Batch(inputs=inputs, lengths=lengths, labels=[0] * len(lengths))


def write_bert_base(folder: Path) -> None:
    """Write a BERT-base with random numbers."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig()).save_pretrained(folder)


def local(setting: Setting) -> Step:
    """Fine-tune the whole model here."""
    model = setting.pretrained.whole(seed=0)
    learner = WholeLearner(
        model, HEAD_TABLE["sequence-classification"], OptimizerSpec(), torch.device("cpu")
    )

    def step(number: int) -> None:
        learner.train_step(number, [setting.batch(number, padded=False)], RATE)

    return step


def split(
    setting: Setting, cut: str, *, padded: bool, micro: str | int, alone: bool = False
) -> Step:
    """Train net1 here, with the project's own code."""
    options = setting.options
    spec = null_spec(
        setting.width(cut),
        encoding=options.encoding,
        gradient_encoding=options.grad_encoding,
        seconds=options.seconds,
    )
    session = (
        Echo()
        if alone
        else GrpcSession(options.server, spec, null_shape(setting.width(cut)), connect_seconds=60)
    )
    learner = SplitLearner(
        setting.net1(cut),
        session,
        HEAD_TABLE["sequence-classification"],
        OptimizerSpec(),
        torch.device("cpu"),
        pacing=Pacing(micro),
    )
    taken = iter(range(1, 2**31))

    def step(number: int) -> None:
        lengths = setting.batch(number, padded=padded).lengths
        parts = micro_batches(range(len(lengths)), lengths, learner.micro_batches)
        batches = [setting.batch(number, padded=padded, rows=rows) for rows in parts]
        learner.train_step(next(taken), batches, RATE)

    return step


def other(setting: Setting, cloud_step: Callable[[Tensor, Tensor], Any]) -> Step:
    """Train net1 here as anyone would: pad, send, wait, backward, step.

    Args:
        setting: gives net1 and the batches.
        cloud_step: activation (B, M, W) and labels -> what to call backward on.
    """
    net1 = setting.net1("sft").train()
    optimizer = adamw(net1, OptimizerSpec())
    set_learning_rate(optimizer, RATE)

    def step(number: int) -> None:
        batch = setting.batch(number, padded=True)
        optimizer.zero_grad()
        activation_BMW = net1(batch.inputs)
        cloud_step(activation_BMW, torch.tensor(batch.labels)).backward()
        optimizer.step()

    return step


def with_rpc(setting: Setting) -> Step:
    """Reach the cloud by torch.distributed.rpc."""
    from torch.distributed import rpc

    where = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://{setting.options.server}")
    rpc.init_rpc("edge", rank=1, world_size=2, rpc_backend_options=where)

    def cloud_step(activation_BMW: Tensor, labels: Tensor) -> Any:
        arguments = (activation_BMW.detach(), labels)
        _, gradient_BMW = rpc.rpc_sync("cloud", rpc_step, arguments)
        return (activation_BMW * gradient_BMW).sum()  # its gradient is that gradient

    return other(setting, cloud_step)


def with_hivemind(setting: Setting) -> Step:
    """Reach the cloud as a RemoteExpert of hivemind."""
    import hivemind
    from hivemind.moe.server import get_experts

    dht = hivemind.DHT(initial_peers=[setting.options.server], client_mode=True, start=True)
    expert = None
    while expert is None:  # the server declares it a little after it is ready
        (expert,) = get_experts(dht, [EXPERT])

    def cloud_step(activation_BMW: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(expert(activation_BMW), labels)

    return other(setting, cloud_step)


CONTENDERS: dict[str, Callable[[Setting], Step]] = {
    "local": local,
    "edge alone": lambda s: split(s, s.options.cut, padded=False, micro=1, alone=True),
    "plain": lambda s: split(s, "none", padded=True, micro=1),
    "paper": lambda s: split(s, "sft", padded=True, micro=1),
    "defaults": lambda s: split(s, s.options.cut, padded=False, micro=s.options.micro_batches),
    "rpc": with_rpc,
    "hivemind": with_hivemind,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--lengths", type=Path, required=True, help="JSON: tokens of each example")
    parser.add_argument("--server", default="")
    parser.add_argument("--cut", default="stream")
    parser.add_argument("--split-layer", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--encoding", default="float32")
    parser.add_argument("--grad-encoding", default="float32")
    parser.add_argument("--micro-batches", default="auto")
    parser.add_argument("--seconds", type=float, default=0.0, help="of the device, for a token")
    options = parser.parse_args()
    torch.set_num_threads(1)
    step = CONTENDERS[options.name](Setting(options))
    print("ready", flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        step(int(line))
        print(time.perf_counter() - begin, flush=True)
    sys.stdout.flush()
    os._exit(0)  # other systems' threads do not all end by themselves


if __name__ == "__main__":
    main()
