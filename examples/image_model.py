"""Teaches a vision transformer to read digits, split between an edge and a cloud.

The images are the 1,797 handwritten digits that come with scikit-learn, 8 x 8 points each.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from transformers import AutoModelForImageClassification

from sft_common.optimizer import SFTOptimizer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", default="google/vit-base-patch16-224-in21k")
parser.add_argument("--role", choices=("edge", "cloud"), default="edge")
parser.add_argument("--server", default="localhost:50051")
parser.add_argument("--split-layer", type=int, default=11)
parser.add_argument("--learning-rate", type=float, default=1e-4)
parser.add_argument("--steps", type=int, default=100)
given = parser.parse_args()

torch.manual_seed(0)
model = AutoModelForImageClassification.from_pretrained(
    given.model, num_labels=10, ignore_mismatched_sizes=True
)
optimizer = torch.optim.AdamW(model.parameters(), lr=given.learning_rate)
digits, size = load_digits(), model.config.image_size
order = torch.randperm(len(digits.target))
images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1  # from -1 to 1
labels = torch.tensor(digits.target)[order]
training, held_out = range(1400), range(1400, len(order))


def pixels(numbers):
    """Return images as large as the model wants them, in three equal colours."""
    large = torch.nn.functional.interpolate(images[numbers], size=(size, size), mode="bilinear")
    return large.expand(-1, 3, -1, -1)


optimizer = SFTOptimizer(
    optimizer,
    model=model,
    role=given.role,
    server=given.server,
    split_layer=given.split_layer,
    cut="stream",  # ViT does not bear the paper's cut, which drops a residual
    rank=16,
    calibration=(pixels(numbers) for numbers in torch.arange(len(training)).split(32)),
)
model.train()
for step in range(given.steps):
    chosen = torch.randint(len(training), (32,))
    optimizer.zero_grad()
    loss = model(pixel_values=pixels(chosen), labels=labels[chosen]).loss
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: loss {loss.item():.2f}", flush=True)

model.eval()
with torch.no_grad():
    answers = [model(pixel_values=pixels(n)).logits for n in torch.tensor(held_out).split(32)]
right = (torch.cat(answers).argmax(dim=-1) == labels[held_out]).float().mean()
print(f"accuracy {right:.1%} on {len(held_out)} digits that it has not seen")
