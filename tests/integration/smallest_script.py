"""The smallest of training scripts, with the two lines."""

import sys

import torch
from transformers import AutoModelForSequenceClassification

from sft_common.optimizer import SFTOptimizer

folder, server, role, *cut = sys.argv[1:]


class Sentences:
    """Batches of tokens, which are on the edge alone."""

    def __iter__(self):
        assert role == "edge"
        return iter(torch.randint(5, 60, (4, 16, 6)))


torch.manual_seed(0)
model = AutoModelForSequenceClassification.from_pretrained(folder)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
optimizer = SFTOptimizer(
    optimizer,
    model=model,
    role=role,
    server=server,
    split_layer=2,
    rank=4,
    cut=cut[0] if cut else "sft",
    calibration=Sentences(),
    serve={"cpu": True, "save_dir": "sessions"},
)
criterion = torch.nn.CrossEntropyLoss()
for _ in range(60):
    target = torch.randint(0, 2, (16,))
    tokens = torch.randint(5, 32, (16, 6)) + 28 * target[:, None]
    optimizer.zero_grad()
    output = model(tokens).logits
    loss = criterion(output, target)
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    right = (model(tokens).logits.argmax(dim=-1) == target).float().mean()
print(f"accuracy {right.item():.2f}")
