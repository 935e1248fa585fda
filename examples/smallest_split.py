"""Teaches a transformer to tell good reviews from bad ones: a whole training script in PyTorch."""

import json
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sft_common.optimizer import SFTOptimizer

folder, name = sys.argv[1:3]
torch.manual_seed(0)
model = AutoModelForSequenceClassification.from_pretrained(name)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
role, server = sys.argv[3:]  # "edge" or "cloud", and the cloud's "host:port"
optimizer = SFTOptimizer(optimizer, model=model, role=role, server=server, split_layer=5)
criterion = torch.nn.CrossEntropyLoss()
tokenizer = AutoTokenizer.from_pretrained(name)


def collate(rows):
    """Make tensors of the rows of a batch."""
    data = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    return data, torch.tensor([row["label"] for row in rows])


training, validation = (
    [json.loads(line) for line in (Path(folder) / part).read_text().splitlines()]
    for part in ("train.jsonl", "validation.jsonl")
)
for epoch in range(3):
    model.train()
    for data, target in DataLoader(training, batch_size=32, shuffle=True, collate_fn=collate):
        optimizer.zero_grad()
        loss = criterion(model(**data).logits, target)
        loss.backward()
        optimizer.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for data, target in DataLoader(validation, batch_size=32, collate_fn=collate):
            right += (model(**data).logits.argmax(dim=-1) == target).sum().item()
    print(f"epoch {epoch + 1}: accuracy {right / len(validation):.1%}", flush=True)
