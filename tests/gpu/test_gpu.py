"""Net2 on a CUDA device: the same numbers as on the CPU, sessions that do not disturb others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sft_cloud import answers
from sft_cloud.engine import Engine
from sft_common.config import ENCODINGS, OptimizerSpec, SplitSpec
from sft_common.model.heads import HEAD_TABLE
from sft_common.model.loading import Pretrained
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from sft_common.wire.codec import numbers_of, tensor_from_parts, tensor_to_parts
from tests.doubles import open_session
from tests.models import save_tiny_model
from tests.processes import running_cloud, train, write_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]

SPLIT = SplitSpec(split_layer=2, rank=4)
MASK = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
LABELS = torch.tensor([0, 1])


def engine(folder: Path, device: str, *, seed: int = 0, dropout: float = 0.0) -> Engine:
    pretrained = Pretrained(folder, num_labels=2, dropout=dropout)
    net2, _ = pretrained.net2(SPLIT, seed=seed, device=torch.device(device))
    head = HEAD_TABLE["sequence-classification"]
    return Engine(net2, head, OptimizerSpec(), seed=seed, device=torch.device(device))


def losses(engines: list[Engine], steps: int = 6) -> list[list[float]]:
    generator = torch.Generator().manual_seed(1)
    found: list[list[float]] = [[] for _ in engines]
    for _ in range(steps):
        activation = torch.randn(2, 3, 4, generator=generator)
        for index, each in enumerate(engines):
            found[index].append(each.step(activation, MASK, LABELS)[0].item())
            each.apply(1e-3)
    return found


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "deberta-v2", "gpt2", "llama"])
def test_the_gpu_gives_the_cpus_numbers(family: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / family, family)
    cpu, gpu = losses([engine(folder, "cpu"), engine(folder, "cuda:0")])
    assert gpu == pytest.approx(cpu, rel=1e-4)


def test_dropout_on_the_gpu_is_repeatable_and_the_sessions_own(tiny_model: Path) -> None:
    def dropping(seed: int) -> Engine:
        return engine(tiny_model, "cuda:0", seed=seed, dropout=0.5)

    (alone,) = losses([dropping(1)])
    beside, other = losses([dropping(1), dropping(2)])
    assert beside == alone != other


def test_a_run_with_the_cloud_on_the_gpu(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"sentence": "a lovely room" if n % 2 else "awful tea", "label": n % 2} for n in range(32)
    ]
    data = write_rows(tmp_path / "data", rows, rows[:8])
    with running_cloud(tmp_path / "cloud", device=("--gpu", 0)) as cloud:
        metrics = train(
            tmp_path,
            *("--task", "sst2", "--model", tiny_model, "--data", data, "--server", cloud.server),
            *("--rank", 4, "--batch-size", 8, "--learning-rate", 3e-3),
        )
    assert metrics["cloud_device"].startswith("cuda:0 ")
    assert metrics["metric"]["value"] == 1.0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_step_over_the_wire_gives_the_cpus_numbers(encoding: str, tiny_model: Path) -> None:
    """What travels is bytes: decoded and padded there, its gradient packed and encoded there."""
    lengths, found = [3, 1, 5], []
    activation = torch.randn(9, 4)
    for device in ("cpu", "cuda:0"):
        session, _ = open_session(
            tiny_model, SPLIT, dropout=0.0, encoding=encoding, device=torch.device(device)
        )
        sent, numbers = tensor_to_parts(activation, encoding)
        losses = []
        for number in (1, 2, 3):
            step = pb.Step(step=number, activation=sent, lengths=lengths, labels=[0, 1, 1], share=1)
            answer, data = answers.step(session, step, numbers, 0.0)
            gradient = tensor_from_parts(answer.step_result.gradient, data, (9, 4), "gradient")
            losses.append(answer.step_result.loss)
            session.apply(number, 1e-3)
        evaluate = pb.Evaluate(activation=sent, lengths=lengths)
        _, logits = answers.evaluate(session, evaluate, numbers, 0.0)
        found.append(
            (torch.tensor(losses), gradient, numbers_of(bytearray(logits), (3, 2), "float32"))
        )
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-5)
