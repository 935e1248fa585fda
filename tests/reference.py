"""Algorithm 1 in one process, written apart from the project's surgery: the truth of the tests.

The stock classifier keeps all its code; only the feed-forward layer of the split block is patched.
"""

from __future__ import annotations

import types
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification


def cut_model(
    folder: Path, *, split_layer: int, rank: int, num_labels: int, head: dict[str, Tensor]
) -> nn.Module:
    """Return a stock BERT whose split layer is u Sigma v without the residual, dropout off.

    Args:
        folder: model folder.
        split_layer: 1 is the lowest block.
        rank: R.
        num_labels: classes.
        head: tensors that the folder lacks, by stock name.
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=num_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
    )
    model.load_state_dict(head, strict=False)
    block = model.bert.encoder.layer[split_layer - 1]
    weight = block.intermediate.dense.weight.detach()
    u, s, v = torch.linalg.svd(weight.T.double(), full_matrices=False)
    block.u = nn.Parameter(u[:, :rank].float().contiguous())
    block.sigma = nn.Parameter(torch.diag(s[:rank]).float())
    block.v = nn.Parameter(v[:rank].float().contiguous())
    block.bias = block.intermediate.dense.bias
    del block.intermediate.dense

    def feed_forward_chunk(self: nn.Module, attention_output: Tensor) -> Tensor:
        inner = attention_output @ self.u @ self.sigma @ self.v + self.bias
        outer = self.output.dense(self.intermediate.intermediate_act_fn(inner))
        normed: Tensor = self.output.LayerNorm(outer)
        return normed

    block.feed_forward_chunk = types.MethodType(feed_forward_chunk, block)
    return model


def train_cut_model(
    model: nn.Module,
    batches: list[tuple[dict[str, Tensor], list[int]]],
    rates: list[float],
    weight_decay: float = 0.01,
) -> list[float]:
    """Train with AdamW, decaying matrices only; returns the loss of every step."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=0.0,
        eps=1e-8,
        fused=True,
    )
    losses = []
    for (inputs, labels), rate in zip(batches, rates, strict=True):
        loss = nn.functional.cross_entropy(model(**inputs).logits, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        losses.append(loss.item())
    return losses
