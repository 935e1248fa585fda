"""The `export` command: both trained halves joined into one model folder."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.errors import ProtocolError, first_line
from sft_common.files import check_new, written_aside
from sft_common.model.joined import save_joined
from sft_common.report.metrics import shown
from sft_edge.calls import fetch_trained
from sft_edge.trained import TrainedRun, read_run


def run_export(options: argparse.Namespace) -> None:
    """Export with the options of `sft-edge export`; the folder appears whole or not at all.

    Raises:
        SftError: the run or the cloud's half is not to be had; the message says why.
        OSError: the disk does not take it.
    """
    transformers.logging.set_verbosity_error()
    target: Path = options.to
    check_new(target)
    run = read_run(options)
    cloud = _fetch(run)
    with written_aside(target.absolute()) as aside:
        aside.mkdir()
        save_joined(
            aside,
            {**cloud, **run.weights},
            run.pretrained.config,
            run.spec.split,
            head=run.spec.head,
            labels=run.task.labels,
            num_labels=len(run.task.labels) or 1,
        )
        run.encoder.tool.save_pretrained(aside)
        (aside / "README.md").write_text(model_card(run), encoding="utf-8")
    print(f"the model is in {target}")


def _fetch(run: TrainedRun) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "cloud.safetensors"
        fetch_trained(run.access, run.session_id, file)
        try:
            tensors: dict[str, Tensor] = load_file(file)
        except SafetensorError as error:
            raise ProtocolError(f"what the cloud sent is broken: {first_line(error)}") from error
        return tensors


NO_FIGURES = "It has no figures: the run was stopped before its end, or its result not fetched yet."


def model_card(run: TrainedRun) -> str:
    """Return the README of an exported model: what it is, its figures, how to load it."""
    split = run.spec.split
    return f"""---
base_model: {run.source.name}
library_name: {"transformers" if split.cut == "none" else "sft"}
---

# {run.source.name}, fine-tuned on {run.task.name}

Fine-tuned by split fine-tuning: the data stayed on the edge, {split.words(run.shape.blocks)}.

{_figures(run) if run.metrics else NO_FIGURES}

{_how_to_load(run)}
"""


def _figures(run: TrainedRun) -> str:
    metrics = run.metrics
    figures = "\n".join(
        f"| {name} | {shown(name, value)} |" for name, value in metrics["metrics"].items()
    )
    return f"""| on {metrics["evaluated_examples"]} validation examples | |
|---|---|
{figures}

| training | |
|---|---|
| examples, epochs planned | {metrics["examples"]}, {metrics["epochs"]} |
| steps taken | {metrics["steps"]} |
| batch size, peak learning rate | {metrics["batch_size"]}, {metrics["learning_rate"]} |
| tokens of an example | {run.encoder.max_length} |
| bytes up, down | {metrics["bytes"]["up"]:,}, {metrics["bytes"]["down"]:,} |
| plain split learning, up, down | {_plain(metrics)} |
| date | {metrics["date"]} |"""


def _plain(metrics: dict[str, Any]) -> str:
    moved = metrics["bytes"]
    return f"{moved['split_learning_up']:,}, {moved['split_learning_down']:,}"


def _how_to_load(run: TrainedRun) -> str:
    if run.spec.split.cut == "none":
        return "A stock model: load it with the `from_pretrained` of its class in transformers."
    return """One block has the form of the cut, so it is loaded with this project
(transformers alone would put random numbers in that place):

```python
from sft_common.model.joined import load_joined
from transformers import AutoTokenizer

model = load_joined("THIS FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS FOLDER")
logits = model(**tokenizer(["some text"], return_tensors="pt"))
```
"""
