"""The weights of one published model, fetched tensor by tensor. It knows files, not halves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # lazily imported

from sft_common.errors import ModelError
from sft_common.model.hub.remote_file import RemoteFile
from sft_common.model.index import SINGLE, shards


class HubWeights:
    """The safetensors of one hub repository, single or sharded, and their sparse copies.

    The copies lie inside the hub client's own cache, by repository and commit.

    Args:
        repo: hub id.
        revision: commit; under a branch's name shards of two versions could meet.
        snapshot: folder of that commit's small files, with the index if the model is sharded.

    Raises:
        ModelError: the repository has no safetensors, or is out of reach and not in the cache.
    """

    def __init__(self, repo: str, revision: str, snapshot: Path) -> None:
        self.repo = repo
        self._revision = revision
        file_of = shards(snapshot)
        if file_of is None:
            single = self._remote(SINGLE)
            self._remote_of = dict.fromkeys(single.tensors(), single)
        else:
            remotes = {file: self._remote(file) for file in set(file_of.values())}
            self._remote_of = {name: remotes[file] for name, file in file_of.items()}

    def file_of(self) -> dict[str, Path]:
        """Return stored tensor name -> the sparse copy that has it once it is fetched."""
        return {name: remote.path for name, remote in self._remote_of.items()}

    def fetch(self, names: Iterable[str], *, rows: int | None = None) -> int:
        """Make sure that the copies have some tensors; return the bytes that were transferred.

        Args:
            names: stored names.
            rows: so many first rows of each matrix are enough; None for all of them.

        Raises:
            ModelError: as `RemoteFile.fetch`.
        """
        wanted: dict[RemoteFile, list[str]] = {}
        for name in names:
            if name not in self._remote_of:
                raise ModelError(f"model {self.repo!r} has no tensor {name}; is it another model?")
            wanted.setdefault(self._remote_of[name], []).append(name)
        return sum(remote.fetch(some, rows=rows) for remote, some in wanted.items())

    def _remote(self, file: str) -> RemoteFile:
        url = hf_hub_url(self.repo, file, revision=self._revision)
        cache = Path(constants.HF_HUB_CACHE) / "sft-parts" / self.repo.replace("/", "--")
        return RemoteFile(url, cache / self._revision / file, headers=build_hf_headers())
