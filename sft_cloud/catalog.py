"""Which pre-trained models this cloud may load, and by which names edges may ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sft_common.errors import ModelError
from sft_common.model.sources import Source, find_published


class ModelCatalog:
    """Turns the name in a session's spec into a model on this machine.

    Args:
        folders: model folders that edges may name by the folder's own name.
        trust_paths: whether edges may name any folder of this machine by its path; only sensible
            where nobody but this machine's own users can connect.
    """

    def __init__(self, folders: Iterable[Path] = (), *, trust_paths: bool = False) -> None:
        self._folders = {folder.resolve().name: folder.resolve() for folder in folders}
        self._trust_paths = trust_paths

    def own(self, name: str, beside: Path) -> Source:
        """Return where a model lies that the owner of this cloud names.

        If it is a folder, edges may name it by its last part from now on.

        Args:
            name: a folder, or as edges name one.
            beside: the folder that relative ones are in.

        Raises:
            ModelError: this cloud does not have it.
        """
        folder = (beside / Path(name).expanduser()).resolve()
        if not folder.is_dir():
            return self.find(name, "")
        self._folders[folder.name] = folder
        return Source(folder=folder, name=folder.name)

    def find(self, name: str, revision: str) -> Source:
        """Return where a model lies.

        Raises:
            ModelError: this cloud does not have it.
        """
        path = Path(name)
        if folder := self._folders.get(path.name):
            return Source(folder=folder, name=folder.name)
        if path.is_absolute() and self._trust_paths and path.is_dir():
            return Source(folder=path, name=path.name)
        missing = (
            f"this cloud has no model folder named {path.name!r} (it has: "
            f"{', '.join(sorted(self._folders)) or 'none'}; give it more with --model DIR)"
        )
        if path.is_absolute() and not self._trust_paths:
            raise ModelError(f"{missing}, and takes no paths: not only this machine can reach it")
        try:
            return find_published(name, revision)
        except ModelError as error:
            raise ModelError(f"{missing}, and: {error}") from error
