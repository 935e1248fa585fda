"""A script with a cut that has a basis, as the cloud runs it: without the edge's examples."""

import sys

import torch
from transformers import AutoModelForSequenceClassification

from sft_common.optimizer import SFTOptimizer

folder, server = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder)
SFTOptimizer(
    torch.optim.Adam(model.parameters()),
    model=model,
    role="cloud",
    server=server,
    split_layer=2,
    rank=4,
    cut="stream",
    calibration=map(open, ["no such file"]),
    serve={"cpu": True, "save_dir": "sessions"},
)
