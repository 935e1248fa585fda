"""Teaches GPT-2 the tone of short reviews, split between an edge and a cloud."""

import argparse
import json
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft_common.optimizer import SFTOptimizer

DEMO = Path(__file__).parents[1] / "sft_edge" / "tasks" / "demo"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="gpt2")
parser.add_argument("--data", type=Path, default=DEMO, help="has train.jsonl, validation.jsonl")
parser.add_argument("--role", choices=("edge", "cloud"), default="edge")
parser.add_argument("--server", default="localhost:50051")
parser.add_argument("--split-layer", type=int, default=11)
parser.add_argument("--learning-rate", type=float, default=1e-4)
given = parser.parse_args()

torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(given.model)
optimizer = torch.optim.AdamW(model.parameters(), lr=given.learning_rate)
optimizer = SFTOptimizer(
    optimizer,
    model=model,
    role=given.role,
    server=given.server,
    split_layer=given.split_layer,
    cut="none",
)
tokenizer = AutoTokenizer.from_pretrained(given.model)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token


def batches(part):
    """Return the texts of a part as tensors of 16; padding is no token to be guessed."""
    rows = [json.loads(line) for line in (given.data / f"{part}.jsonl").read_text().splitlines()]

    def collate(texts):
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return batch | {"labels": batch.input_ids.masked_fill(batch.attention_mask == 0, -100)}

    texts = [row["sentence"] for row in rows]
    return DataLoader(texts, batch_size=16, shuffle=part == "train", collate_fn=collate)


def perplexity():
    """Return the perplexity of the validation texts."""
    model.eval()
    with torch.no_grad():
        losses = [model(**batch).loss.item() for batch in batches("validation")]
    model.train()
    return math.exp(sum(losses) / len(losses))


print(f"perplexity {perplexity():.1f} before", flush=True)
for batch in batches("train"):
    optimizer.zero_grad()
    model(**batch).loss.backward()
    optimizer.step()
print(f"perplexity {perplexity():.1f} after")
