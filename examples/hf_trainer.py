"""Fine-tunes BERT on reviews with the Hugging Face Trainer, split between an edge and a cloud."""

import argparse
import json
from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from sft_common.optimizer import SFTOptimizer

DEMO = Path(__file__).parents[1] / "sft_edge" / "tasks" / "demo"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="bert-base-uncased")
parser.add_argument("--data", type=Path, default=DEMO, help="has train.jsonl, validation.jsonl")
parser.add_argument("--role", choices=("edge", "cloud"), default="edge")
parser.add_argument("--server", default="localhost:50051")
parser.add_argument("--split-layer", type=int, default=11)
parser.add_argument("--learning-rate", type=float, default=5e-5)
parser.add_argument("--report-to", nargs="*", default=[], help="tensorboard, wandb, mlflow")
given = parser.parse_args()

torch.manual_seed(0)
model = AutoModelForSequenceClassification.from_pretrained(given.model)
optimizer = torch.optim.AdamW(model.parameters(), lr=given.learning_rate)
optimizer = SFTOptimizer(
    optimizer, model=model, role=given.role, server=given.server, split_layer=given.split_layer
)
tokenizer = AutoTokenizer.from_pretrained(given.model)


def examples(part):
    """Return the rows of a part, as tokens and a label."""
    rows = map(json.loads, (given.data / f"{part}.jsonl").read_text().splitlines())
    return [{**tokenizer(row["sentence"]), "labels": row["label"]} for row in rows]


def accuracy(said):
    """Return the share of right answers; `said` has logits and labels."""
    return {"accuracy": (said.predictions.argmax(axis=-1) == said.label_ids).mean()}


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        num_train_epochs=3,
        learning_rate=given.learning_rate,  # for the logs; the optimizer has its own
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        warmup_steps=0.1,
        logging_steps=10,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=given.report_to,
    ),
    train_dataset=examples("train"),
    eval_dataset=examples("validation"),
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=accuracy,
    optimizers=(optimizer, None),
)
trainer.train()
