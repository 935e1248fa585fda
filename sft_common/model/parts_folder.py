"""A model in three parts as one folder, and back: safetensors and JSON only.

`model.safetensors` holds the stock model with what the tail has learned; `parts.safetensors` the
soft prompts, the tail and the codes of both cuts; `parts.json` says where the cuts are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sft_common.config import PartsSpec, SplitSpec
from sft_common.errors import ModelError, first_line
from sft_common.model.joined import save_joined
from sft_common.model.loading import Pretrained
from sft_common.model.parting import Parting
from sft_common.model.parts import Parts
from sft_common.model.tensor_file import save_tensors

PARTS_FILE = "parts.json"
NUMBERS_FILE = "parts.safetensors"

WHOLE = SplitSpec(cut="none", split_layer=1)
"""Any cut that changes no weight: the stock model is both halves of it."""


def save_parts(
    folder: Path,
    pretrained: Pretrained,
    spec: PartsSpec,
    code: Mapping[str, Tensor],
    trained: Mapping[str, Tensor],
    *,
    labels: Sequence[str],
) -> None:
    """Write a model in three parts into an existing folder.

    Args:
        folder: where to.
        pretrained: the model whose head and body they are.
        spec: both cuts, and the prompts.
        code: frozen numbers of both cuts' codes.
        trained: prompts and tail, as `Parts.state` gives them.
        labels: names of the classes.

    Raises:
        ModelError: the tensors are not those of the parts.
        OSError, SafetensorError: the disk does not take it.
    """
    whole = pretrained.whole(seed=0)
    stock = {name: trained.get(name, p.detach()) for name, p in whole.named_parameters()}
    save_joined(
        folder,
        stock,
        pretrained.config,
        WHOLE,
        head=pretrained.head,
        labels=labels,
        num_labels=len(labels) or 1,
    )
    save_tensors(folder / NUMBERS_FILE, {**code, **trained})
    facts = {**dataclasses.asdict(spec), "head": pretrained.head, "num_labels": len(labels) or 1}
    (folder / PARTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_parts(folder: str | Path) -> Parts:
    """Return the model of a folder that `save_parts` wrote, in evaluation mode.

    Raises:
        ModelError: the folder is not one of those, or cannot be read.
    """
    folder = Path(folder)
    try:
        facts: dict[str, Any] = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
        numbers = load_file(folder / NUMBERS_FILE)
        spec = PartsSpec(
            first=SplitSpec(**facts["first"]),
            second=SplitSpec(**facts["second"]),
            prompts=int(facts["prompts"]),
            first_row=bool(facts["first_row"]),
        )
        head, num_labels = str(facts["head"]), int(facts["num_labels"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} is no folder of a model in three parts ({first_line(error)})"
        ) from error
    pretrained = Pretrained(folder, num_labels=num_labels, head=head)
    parting = Parting(pretrained, spec, numbers)
    parts = parting.parts(seed=0, body=parting.body())
    parts.load({name: numbers[name] for name in parts.trained() if name in numbers})
    return parts.eval()
