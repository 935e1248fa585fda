"""Autocast and GradScaler reach both halves of a script's model, as they do the whole one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from sft_cloud.device import check_computes
from sft_common.errors import ConfigError, DeviceError, TrainingError
from sft_common.optimizer import SFTOptimizer
from tests.integration.test_script import OPTIMIZERS, Examples, batches, load, split
from tests.processes import Cloud, running_cloud

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def pair(cloud: Cloud, tiny_model: Path) -> Iterator[Callable[..., Any]]:
    """Make a whole model with its optimizer, and one in halves."""
    opened: list[SFTOptimizer] = []

    def make(name: str = "SGD", **more: Any) -> Any:
        whole, halved = load(tiny_model), load(tiny_model)
        opened.append(split(halved, OPTIMIZERS[name](halved), cloud, **more))
        return (whole, OPTIMIZERS[name](whole)), (halved, opened[-1])

    yield make
    for each in opened:
        each.close()


def loop(model: Any, optimizer: Any, dtype: torch.dtype) -> list[float]:
    """Train under autocast, by the model's own loss and by one of its logits; then evaluate."""
    losses = []
    for number, (data, target) in enumerate(batches()):
        with torch.autocast("cpu", dtype):
            if number % 2:
                logits = model(**data).logits
                assert logits.dtype == dtype
                loss = nn.functional.cross_entropy(logits, target)
            else:
                loss = model(**data, labels=target).loss
        assert loss.dtype == torch.float32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype):
        found = model(**data, labels=target)
    assert found.logits.dtype == dtype
    return [*losses, found.loss.item(), *found.logits.flatten().tolist()]


@pytest.mark.parametrize("labels", ["cloud", "edge"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["SGD", "AdamW in groups"])
def test_autocast_reaches_both_halves(
    pair: Callable[..., Any], name: str, dtype: torch.dtype, labels: str
) -> None:
    whole, halved = pair(name, labels=labels)
    assert loop(*halved, dtype) == loop(*whole, dtype)


def bf16_trainer(model: Any, optimizer: Any) -> list[float]:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=True,
            disable_tqdm=True,
        )
        training = Trainer(
            model=model,
            args=arguments,
            train_dataset=Examples(),
            eval_dataset=Examples(),
            optimizers=(optimizer, schedule),
        )
        training.train()
        last = training.evaluate()["eval_loss"]
    return [*(e["loss"] for e in training.state.log_history if "loss" in e), last]


def bf16_accelerated(model: Any, optimizer: Any) -> list[float]:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    loader = DataLoader(Examples(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("labels", ["cloud", "edge"])
@pytest.mark.parametrize("script", [bf16_trainer, bf16_accelerated])
def test_the_trainer_and_accelerate_train_in_bfloat16(
    pair: Callable[..., Any], script: Callable[[Any, Any], list[float]], labels: str
) -> None:
    whole, halved = pair(labels=labels)
    expected = script(*whole)
    assert script(*halved) == pytest.approx(expected, abs=1e-6)
    assert expected[0] != expected[-1]


def test_a_device_that_lacks_a_precision_is_named() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        patch.setattr(torch.cuda, "get_device_name", lambda _: "Old")
        check_computes(torch.device("cuda", 0), "float16")
        with pytest.raises(DeviceError, match="bfloat16, which the cloud's cuda:0 Old does not"):
            check_computes(torch.device("cuda", 0), "bfloat16")


def scaled(
    model: Any, optimizer: Any, *, clip: bool, dtype: torch.dtype | None, first: float
) -> list[float]:
    """Train with a GradScaler whose first steps are passed over."""
    scaler = torch.amp.GradScaler("cpu", init_scale=first, growth_interval=3)
    told = []
    for number, (data, target) in enumerate(batches(10)):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            if number % 2:
                loss = nn.functional.cross_entropy(model(**data).logits, target)
            else:
                loss = model(**data, labels=target).loss
        if number % 3:
            model.zero_grad()
        else:
            optimizer.zero_grad()
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        told += [loss.item(), scaler.get_scale()]
    assert told[1] == first / 2  # the first step was passed over
    assert optimizer.state  # others were not
    return told


@pytest.mark.parametrize("labels", ["cloud", "edge"])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(("dtype", "first"), [(None, 2.0**127), (torch.float16, 2.0**18)])
def test_a_grad_scaler_scales_and_passes_over_both_halves(
    pair: Callable[..., Any], dtype: torch.dtype | None, first: float, clip: bool, labels: str
) -> None:
    whole, halved = pair("Adam", labels=labels)
    settings = {"clip": clip, "dtype": dtype, "first": first}
    expected = scaled(*whole, **settings)
    # The norm that clipping divides by is rounded otherwise where gradients are apart.
    assert scaled(*halved, **settings) == pytest.approx(
        expected, abs=2e-3 if dtype and clip else 1e-6
    )


def test_a_gradient_that_is_no_number_steps_neither_half(pair: Callable[..., Any]) -> None:
    whole, halved = pair()
    for model, optimizer in (whole, halved):
        (data, target), (more, _) = batches(2)
        loss = nn.functional.cross_entropy(model(**data).logits, target)
        (loss * float("inf")).backward()
        if model is halved[0]:
            with pytest.raises(TrainingError, match="neither half has stepped: a torch.amp.GradSc"):
                optimizer.step()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(**more).logits, target).backward()
        optimizer.step()
    (data, target), *_ = batches(1)
    mine, its = (model(**data, labels=target).loss.item() for model, _ in (halved, whole))
    assert mine == its


def forgetting(model: Any, optimizer: Any, *, none: bool, before: bool) -> list[float]:
    """Train with every second batch, and forget the gradients of the others."""
    losses = []
    for number, (data, target) in enumerate(batches(10)):
        if before:
            optimizer.zero_grad(set_to_none=none)
        loss = model(**data, labels=target).loss
        if not before:
            optimizer.zero_grad(set_to_none=none)
        loss.backward()
        if number % 2:
            optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("labels", ["cloud", "edge"])
@pytest.mark.parametrize("none", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_gradients_that_a_script_forgets_are_forgotten_on_both_halves(
    pair: Callable[..., Any], none: bool, before: bool, labels: str
) -> None:
    whole, halved = pair(labels=labels)
    settings = {"none": none, "before": before}
    assert forgetting(*halved, **settings) == pytest.approx(
        forgetting(*whole, **settings), abs=1e-6
    )


def test_a_second_backward_of_one_pass_is_refused(pair: Callable[..., Any]) -> None:
    _, (model, optimizer) = pair()
    (data, target), *_ = batches(1)
    for loss in (
        model(**data, labels=target).loss,
        nn.functional.cross_entropy(model(**data).logits, target),
    ):
        loss.backward(retain_graph=True)
        with pytest.raises(ConfigError, match="backward came twice for one forward pass"):
            loss.backward()
    optimizer.step()
