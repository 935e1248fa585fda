"""scikit-learn's digits for a federation: a small ViT that knows others, and a task new to it.

No pre-trained ViT is to be had offline, and prompts before a body of random numbers say nothing. So
the first digits are public: the ViT is trained on them here, centrally. The clients have others,
and as negatives, so that there is something left to learn: of those it reads fewer than by chance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

PUBLIC, CLIENTS = 600, 800
"""Digits to pre-train on, and of all clients together; the other 397 are the validation part."""

LABELS = tuple(str(number) for number in range(10))

SIZE, PATCH = 16, 4
"""Points of an image's side, and of a patch's: 16 patches and the class token."""

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 32, 2e-3, 0.05
"""Of pre-training, with AdamW and a rate that rises and falls once."""

SPREAD = 0.1
"""Standard deviation of what the ViT starts from: with the usual 0.02 a small one learns late."""

WHITE = 255


def write_digits(folder: Path, clients: int = CLIENTS) -> None:
    """Write the clients' task: train.jsonl, validation.jsonl and labels.json."""
    pixels, labels = _digits()
    negatives = WHITE - pixels
    parts = {"train": range(PUBLIC, PUBLIC + clients), "validation": range(PUBLIC + CLIENTS, 1797)}
    folder.mkdir(parents=True)
    for part, chosen in parts.items():
        rows = [{"image": negatives[n].tolist(), "label": LABELS[labels[n]]} for n in chosen]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text)
    (folder / "labels.json").write_text(json.dumps(LABELS) + "\n")


def write_pretrained(folder: Path, *, epochs: int, seed: int = 0) -> float:
    """Write a ViT trained on the public digits; returns its accuracy on the others, no negatives.

    One thread, so that it is the same each time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, accuracy = _trained(epochs, seed)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    _processor().save_pretrained(folder)
    return accuracy


def _trained(epochs: int, seed: int) -> tuple[Any, float]:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=256,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=SPREAD,
    )
    config.num_labels = len(LABELS)
    model: Any = ViTForImageClassification(config)
    pixels, labels = _digits()
    inputs, wanted = _inputs(pixels), torch.tensor(labels)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-PUBLIC // BATCH_SIZE)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(PUBLIC).split(BATCH_SIZE):
            optimizer.zero_grad()
            model(pixel_values=inputs[rows], labels=wanted[rows]).loss.backward()
            optimizer.step()
            falling.step()
    model.eval()
    with torch.no_grad():
        found = model(pixel_values=inputs[PUBLIC:]).logits.argmax(dim=1)
    return model, float((found == wanted[PUBLIC:]).float().mean())


def _inputs(pixels: np.ndarray) -> Tensor:
    made: Tensor = _processor()(_images(pixels), return_tensors="pt")["pixel_values"]
    return made


def _images(pixels: np.ndarray) -> Sequence[Any]:
    from PIL import Image

    return [Image.fromarray(image).convert("RGB") for image in pixels]


def _processor() -> Any:
    mean = [0.5, 0.5, 0.5]
    return ViTImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, image_mean=mean, image_std=mean, resample=2
    )


def _digits() -> tuple[np.ndarray, list[int]]:
    """Return all digits in a drawn order: (D, 8, 8) of 0..255, and their classes."""
    from sklearn.datasets import load_digits

    known = load_digits()
    order = np.random.RandomState(0).permutation(len(known.target))
    pixels = (known.images[order] * (WHITE / 16)).round().astype(np.uint8)
    return pixels, known.target[order].tolist()
