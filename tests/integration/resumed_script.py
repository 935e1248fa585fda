"""Scripts that save states as they train and go on from them; as a program, one of them goes on."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sft_common.optimizer import SFTOptimizer

STEPS, SAVED = 6, 3


class Stopped(Exception):
    """Whatever ends a script before its end."""


class Examples(Dataset[dict[str, Tensor]]):
    """Sentences of one length."""

    def __len__(self) -> int:
        return 4 * STEPS

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(number)
        tokens = torch.randint(5, 60, (6,), generator=generator)
        return {"input_ids": tokens, "labels": torch.tensor(number % 3)}


def load(folder: Path) -> Any:
    """Load a model with a head of its own, and dropout."""
    torch.manual_seed(5)
    return AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=3,
        ignore_mismatched_sizes=True,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )


def split(folder: Path, server: str, **more: Any) -> tuple[Any, SFTOptimizer]:
    """Return a model of which half is on a cloud, and its optimizer."""
    model = load(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    settings = {"role": "edge", "split_layer": 2, "cut": "none", **more}
    return model, SFTOptimizer(optimizer, model=model, server=server, **settings)


def plain(model: Any, optimizer: Any, place: Path, stop: int = 0) -> None:
    """Train in a loop of one's own, with a criterion, clipping and a schedule."""
    torch.manual_seed(7)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    done, file = 0, place / "state.pt"
    if file.exists():
        done, *states, randomness = torch.load(file, weights_only=True)
        for part, state in zip((model, optimizer, schedule), states, strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(randomness)
    for number, batch in enumerate(DataLoader(Examples(), batch_size=4)):
        if number < done:
            continue
        optimizer.zero_grad()
        logits = model(batch["input_ids"]).logits
        nn.functional.cross_entropy(logits, batch["labels"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if number + 1 == SAVED:
            states = [part.state_dict() for part in (model, optimizer, schedule)]
            torch.save((SAVED, *states, torch.get_rng_state()), file)
        if number + 1 == stop:
            raise Stopped


def trainer(model: Any, optimizer: Any, place: Path, stop: int = 0) -> None:
    """Train with transformers' Trainer, two batches a step."""

    class Stopping(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == stop:
                raise Stopped

    arguments = TrainingArguments(
        output_dir=str(place),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        save_steps=SAVED,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    training = Trainer(
        model=model,
        args=arguments,
        train_dataset=Examples(),
        optimizers=(optimizer, schedule),
        callbacks=[Stopping()],
    )
    training.train(resume_from_checkpoint=any(place.glob("checkpoint-*")))


def accelerated(model: Any, optimizer: Any, place: Path, stop: int = 0) -> None:
    """Train with Accelerate, which saves and loads all there is."""
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    accelerator = Accelerator(cpu=True)
    loader = DataLoader(Examples(), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    done = 0
    if (place / "all").exists():
        accelerator.load_state(str(place / "all"))
        done = SAVED
    for number, batch in enumerate(loader):
        if number < done:
            continue
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        optimizer.zero_grad()
        if number + 1 == SAVED:
            accelerator.save_state(str(place / "all"))
        if number + 1 == stop:
            raise Stopped


SCRIPTS: dict[str, Callable[..., None]] = {
    "plain": plain,
    "trainer": trainer,
    "accelerated": accelerated,
}

if __name__ == "__main__":
    name, folder, server, role = sys.argv[1:]
    options = {"cpu": True, "save_dir": "sessions"}
    model, optimizer = split(Path(folder), server, role=role, serve=options)
    SCRIPTS[name](model, optimizer, Path())
    optimizer.close()
    torch.save(model.state_dict(), "net1.pt")
