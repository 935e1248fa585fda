"""A training script with an SFTOptimizer, beside the same script without it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from sft_common.errors import ConfigError
from sft_common.optimizer import SFTOptimizer
from tests.processes import Cloud, running_cloud

Batch = tuple[dict[str, Tensor], Tensor]

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


def load(folder: Path) -> Any:
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True, **NO_DROPOUT
    )


def batches(count: int = 6) -> list[Batch]:
    """Batches of unlike lengths, some padded on the left."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for number in range(count):
        tokens = torch.randint(5, 60, (4, 7), generator=generator)
        mask = torch.ones(4, 7, dtype=torch.int64)
        mask[number % 4, 4:] = 0
        labels = torch.randint(0, 3, (4,), generator=generator)
        found.append(({"input_ids": tokens, "attention_mask": mask}, labels))
    return found


def split(model: Any, optimizer: Any, cloud: Cloud, **more: Any) -> SFTOptimizer:
    settings = {"split_layer": 2, "cut": "none", **more}
    return SFTOptimizer(optimizer, model=model, role="edge", server=cloud.server, **settings)


# With its usual eps Adam makes a whole step of a gradient that is rounding alone, such as that of a
# key's bias; the norm of all gradients is rounded otherwise where they are apart.
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "AdamW in groups": lambda model: torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim < 2], "lr": 1e-2},
        ],
        lr=1e-3,
        weight_decay=0.0,
        eps=1e-3,
    ),
}


def plain(model: Any, optimizer: Any) -> list[float]:
    """Train as the smallest of scripts does; returns losses, the last of an evaluation."""
    criterion = nn.CrossEntropyLoss()
    losses = []
    for data, target in batches():
        optimizer.zero_grad()
        loss = criterion(model(**data).logits, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        data, target = batches()[0]
        losses.append(criterion(model(**data)["logits"], target).item())
    return losses


def accumulating(model: Any, optimizer: Any) -> list[float]:
    """Train with labels for the model, gradients of two batches a step, clipping and a schedule."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    losses = []
    for number, (data, target) in enumerate(batches(8)):
        loss = model(**data, labels=target)["loss"] / 2
        loss.backward()
        losses.append(loss.item())
        if number % 2:
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            losses.append(norm.item())
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return losses


def at_once(model: Any, optimizer: Any) -> list[float]:
    """Train with one loss of two forward passes, in evaluation mode."""
    model.eval()
    losses = []
    for (first, _), (second, target) in zip(batches(), batches()[1:], strict=False):
        both = model(**first).logits, model(**second).logits
        loss = nn.functional.cross_entropy(both[0] - both[1], target)
        model.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def two_losses(model: Any, optimizer: Any) -> list[float]:
    """Train with two losses of the model's own in one backward pass, and one that has none."""
    losses = []
    for (first, one), (second, two) in zip(batches(), batches()[1:], strict=False):
        optimizer.zero_grad()
        loss = model(**first, labels=one).loss + 3 * model(**second, labels=two).loss
        loss.backward()
        losses += [loss.item(), model(**first, labels=two).loss.item()]
        optimizer.step()
    return losses


class Examples(Dataset[dict[str, Tensor]]):
    """Sentences of one length, as a Trainer wants them."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(5, 60, (6,), generator=generator)
        return {"input_ids": tokens, "labels": torch.tensor(number % 3)}


def trainer(model: Any, optimizer: Any) -> list[float]:
    """Train with transformers' Trainer: schedule, accumulation, clipping, evaluation."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    with tempfile.TemporaryDirectory() as place:
        settings = TrainingArguments(
            output_dir=place,
            num_train_epochs=1,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            max_grad_norm=0.5,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        training = Trainer(
            model=model,
            args=settings,
            train_dataset=Examples(),
            eval_dataset=Examples(),
            optimizers=(optimizer, schedule),
        )
        training.train()
        last = training.evaluate()["eval_loss"]
    told = [(e["loss"], e["grad_norm"]) for e in training.state.log_history if "loss" in e]
    return [*(number for pair in told for number in pair), last]


def accelerated(model: Any, optimizer: Any) -> list[float]:
    """Train with Accelerate."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    loader = DataLoader(Examples(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                losses.append(accelerator.clip_grad_norm_(model.parameters(), 0.4).item())
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("labels", ["cloud", "edge"])
@pytest.mark.parametrize("script", [plain, accumulating, two_losses, at_once, trainer, accelerated])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_script_trains_as_without_the_two_lines(
    cloud: Cloud,
    tiny_model: Path,
    script: Callable[[Any, Any], list[float]],
    name: str,
    labels: str,
) -> None:
    whole, halved = load(tiny_model), load(tiny_model)
    expected = script(whole, OPTIMIZERS[name](whole))
    optimizer = split(halved, OPTIMIZERS[name](halved), cloud, labels=labels)
    assert script(halved, optimizer) == pytest.approx(expected, abs=1e-6, rel=1e-6)
    assert expected[0] != expected[-1]
    optimizer.close()
    here = dict(halved.named_parameters())
    assert not any("layer.2" in each or "classifier" in each for each in here)
    for each, parameter in here.items():
        if not each.startswith("net2"):
            torch.testing.assert_close(parameter, whole.get_parameter(each), atol=1e-6, rtol=0)


def test_what_cannot_be_done_elsewhere_is_refused(cloud: Cloud, tiny_model: Path) -> None:
    model = load(tiny_model)
    optimizer = split(model, torch.optim.Adam(model.parameters()), cloud)
    data, target = batches()[0]
    nn.functional.cross_entropy(model(**data).logits, target).backward()
    with pytest.raises(ConfigError, match="clamp_ needs every number of the gradients"):
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
    with pytest.raises(ConfigError, match="a norm of order inf needs every number"):
        nn.utils.clip_grad_norm_(model.parameters(), 0.1, norm_type=float("inf"))
    with pytest.raises(ConfigError, match="a split model takes no output_attentions"):
        model(**data, output_attentions=True)
    with pytest.raises(ConfigError, match="step takes no closure"):
        optimizer.step(lambda: 0.0)
    late = model(**data).logits
    optimizer.step()
    with pytest.raises(ConfigError, match="pass of step 1, but step 2 is under way"):
        late.sum().backward()
    optimizer.close()
