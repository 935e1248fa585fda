"""One contender of step.py: an edge that takes a training step whenever it is told to.

    python -m benchmarks.step_edges NAME --model DIR --lengths FILE --server HOST:PORT ...

It reads numbers of batches from its input, one a line, and answers each with the seconds that its
step took; "tune N" has it find its number of micro-batches anew, over the first N batches. The
model is real, what is behind the wire is not (null_cloud.py, step_clouds.py); "device" is the
exception: it takes the cloud's share of a step here, and answers with the tokens of the batch, the
seconds of the step and those of the update.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.null_cloud import Device, null_shape, null_spec
from benchmarks.step_clouds import EXPERT, RPC_OPTIONS, rpc_step
from sft_cloud.engine import Engine
from sft_common.config import OptimizerSpec, SplitSpec
from sft_common.errors import UnreachableError
from sft_common.model.adamw import adamw, set_learning_rate
from sft_common.model.families import shape_of
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.model.partition import Net1
from sft_common.plan import micro_batches
from sft_common.rpc.access import Access
from sft_common.wire.packing import mask_of
from sft_edge.client import GrpcSession
from sft_edge.learners import SplitLearner, WholeLearner
from sft_edge.pacing import CANDIDATES, ROUNDS, WARM_UP, Pacing
from sft_edge.planner.edge_rehearsal import Nobody
from sft_edge.remote import CloudSession
from sft_edge.tasks.batches import Batch

PADDED = 66
"""Tokens to which the paper pads."""

RATE = 2e-5

CPU = torch.device("cpu")

HEAD = HEAD_TABLE["sequence-classification"]

FIND_SECONDS = 60.0
"""How long hivemind's expert may take to be found."""


class Setting:
    """What contenders are made of.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = Device(*options.device)
        self.batches: list[list[int]] = json.loads(options.lengths.read_text())
        self.pretrained = Pretrained(
            options.model, num_labels=2, head="sequence-classification", dropout=None
        )

    def split(self, cut: str) -> SplitSpec:
        """Return where the model is cut."""
        return SplitSpec(cut=cut, split_layer=self.options.split_layer, rank=self.options.rank)

    def net1(self, cut: str) -> Net1:
        """Return the edge half of a cut; the numbers of the cut itself are small and random."""
        net1 = self.pretrained.net1(self.split(cut))
        self.pretrained.fill_net1(net1)
        for parameter in net1.block.cut.parameters():
            nn.init.normal_(parameter.data, std=0.02)
        return net1

    def width(self, cut: str) -> int:
        """Return W of a cut."""
        return self.split(cut).wire_width(shape_of(self.pretrained.config))

    def lengths(self, number: int, *, padded: bool = False) -> list[int]:
        """Return the tokens of each example of a batch."""
        known = self.batches[number % len(self.batches)]
        return [PADDED] * len(known) if padded else known

    def batch(self, lengths: Sequence[int], number: int) -> Batch:
        """Return a batch of random tokens."""
        mask_BM = mask_of(lengths, max(lengths))
        generator = torch.Generator().manual_seed(number)
        tokens_BM = torch.randint(1000, 20_000, mask_BM.shape, generator=generator) * mask_BM
        inputs = {
            "input_ids": tokens_BM,
            "token_type_ids": torch.zeros_like(tokens_BM),
            "attention_mask": mask_BM.long(),
        }
        return Batch(inputs=inputs, lengths=list(lengths), labels=[0] * len(lengths))


def write_bert_base(folder: Path) -> None:
    """Write a BERT-base with random numbers."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig()).save_pretrained(folder)


class Local:
    """Fine-tunes the whole model here."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        model = setting.pretrained.whole(seed=0)
        self._learner = WholeLearner(model, HEAD, OptimizerSpec(), CPU)

    def step(self, number: int) -> None:
        """Take a step with the batch of a number."""
        batch = self._setting.batch(self._setting.lengths(number), number)
        _finite(self._learner.train_step(number, [batch], RATE))


class Split:
    """Trains net1 here, with the project's own code.

    Args:
        setting: of the contender.
        cut: name of the cut.
        padded: whether all examples are padded to `PADDED`, and the padding sent.
        micro: number of micro-batches, or "auto".
        alone: whether the cloud is in this process and needs no time.
    """

    def __init__(
        self, setting: Setting, cut: str, *, padded: bool, micro: str, alone: bool = False
    ) -> None:
        options, width = setting.options, setting.width(cut)
        spec = null_spec(
            width,
            encoding=options.encoding,
            gradient_encoding=options.grad_encoding,
            device=setting.device,
        )
        self._session: CloudSession = (
            cast(CloudSession, Nobody(CPU))
            if alone
            else GrpcSession(
                Access(server=options.server, connect_seconds=60), spec, null_shape(width)
            )
        )
        self._setting, self._padded, self._micro = setting, padded, micro
        self._net1, self._taken = setting.net1(cut), 0
        self._pace(Pacing(micro))

    def _pace(self, pacing: Pacing) -> None:
        self._learner = SplitLearner(
            self._net1, self._session, HEAD, OptimizerSpec(), CPU, pacing=pacing
        )

    def step(self, number: int) -> None:
        """Take a step with the batch of a number."""
        lengths = self._setting.lengths(number, padded=self._padded)
        parts = micro_batches(range(len(lengths)), lengths, self._learner.micro_batches)
        batches = [self._setting.batch([lengths[row] for row in rows], number) for rows in parts]
        self._taken += 1
        _finite(self._learner.train_step(self._taken, batches, RATE))

    def tune(self, batches: int) -> int:
        """Find the number of micro-batches over some batches; all candidates see the same."""
        pacing = Pacing(self._micro)
        self._learner.settle()
        self._pace(pacing)
        for number in range(WARM_UP + ROUNDS * len(CANDIDATES)):
            turn = max(0, number - WARM_UP) // len(CANDIDATES)
            self.step(turn * batches // ROUNDS)
        return pacing.count


class Other:
    """Trains net1 here as anyone would: pad to the longest, send, wait, backward, step.

    Args:
        setting: of the contender.
        loss_of: activation (B, M, W) and labels -> what to call backward on.
    """

    def __init__(self, setting: Setting, loss_of: Callable[[Tensor, Tensor], Any]) -> None:
        self._setting, self._loss_of = setting, loss_of
        self._net1 = setting.net1("sft").train()
        self._optimizer = adamw(self._net1, OptimizerSpec())
        set_learning_rate(self._optimizer, RATE)

    def step(self, number: int) -> None:
        """Take a step with the batch of a number."""
        batch = self._setting.batch(self._setting.lengths(number), number)
        self._optimizer.zero_grad()
        loss = self._loss_of(self._net1(batch.inputs), torch.tensor(batch.labels))
        _finite(loss.item())
        loss.backward()
        self._optimizer.step()


def with_rpc(setting: Setting) -> Other:
    """Reach the cloud by torch.distributed.rpc."""
    from torch.distributed import rpc

    where = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://{setting.options.server}", **RPC_OPTIONS
    )
    rpc.init_rpc("edge", rank=1, world_size=2, rpc_backend_options=where)

    def loss_of(activation_BMW: Tensor, labels: Tensor) -> Any:
        arguments = (activation_BMW.detach(), labels, setting.device)
        _, gradient_BMW = rpc.rpc_sync("cloud", rpc_step, arguments)
        return (activation_BMW * gradient_BMW).sum()  # its gradient is that gradient

    return Other(setting, loss_of)


def with_hivemind(setting: Setting) -> Other:
    """Reach the cloud as a RemoteExpert of hivemind."""
    import hivemind
    from hivemind.moe.server import get_experts

    dht = hivemind.DHT(initial_peers=[setting.options.server], client_mode=True, start=True)
    deadline = time.monotonic() + FIND_SECONDS
    while (expert := get_experts(dht, [EXPERT])[0]) is None:  # declared a little after "ready"
        if time.monotonic() > deadline:
            raise UnreachableError(f"hivemind finds no expert within {FIND_SECONDS:g} s")
        time.sleep(0.5)

    def loss_of(activation_BMW: Tensor, labels: Tensor) -> Any:
        return nn.functional.cross_entropy(expert(activation_BMW), labels)

    return Other(setting, loss_of)


class CloudShare:
    """Takes the cloud's share of a step here, to see how long it takes."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        split = setting.split("sft")
        net2, _ = setting.pretrained.net2(split, seed=0, device=CPU)
        self._engine = Engine(net2, HEAD, OptimizerSpec(), seed=0, device=CPU)

    def measure(self, number: int) -> list[float]:
        """Return tokens, padding included, seconds of the step and seconds of the update."""
        lengths = self._setting.lengths(number)
        mask_BM = mask_of(lengths, max(lengths))
        activation_BMW = torch.randn(*mask_BM.shape, self._setting.width("sft"))
        begin = time.perf_counter()
        self._engine.step(activation_BMW, mask_BM, torch.zeros(len(lengths), dtype=torch.int64))
        stepped = time.perf_counter()
        self._engine.apply(RATE)
        return [mask_BM.numel(), stepped - begin, time.perf_counter() - stepped]


def _finite(loss: float) -> None:
    """Refuse a step that was not taken: it would count as a fast one."""
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss}")


CONTENDERS: dict[str, Callable[[Setting], Any]] = {
    "local": Local,
    "edge alone": lambda s: Split(s, s.options.cut, padded=False, micro="1", alone=True),
    "plain": lambda s: Split(s, "none", padded=True, micro="1"),
    "paper": lambda s: Split(s, "sft", padded=True, micro="1"),
    "defaults": lambda s: Split(s, s.options.cut, padded=False, micro=s.options.micro_batches),
    "rpc": with_rpc,
    "hivemind": with_hivemind,
    "device": CloudShare,
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
    parser.add_argument("--device", type=float, nargs=3, default=Device(), metavar="SECONDS")
    options = parser.parse_args()
    torch.set_num_threads(1)
    contender = CONTENDERS[options.name](Setting(options))
    print("ready", flush=True)
    for line in sys.stdin:
        order, _, argument = line.rpartition(" ")
        print(answer(contender, order, int(argument)), flush=True)
    os._exit(0)  # other systems' threads do not all end by themselves


def answer(contender: Any, order: str, argument: int) -> str:
    """Return what to say to an order."""
    if order == "tune":
        return str(contender.tune(argument))
    if isinstance(contender, CloudShare):
        return json.dumps(contender.measure(argument))
    begin = time.perf_counter()
    contender.step(argument)
    return str(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
