"""The data of a federation's clients, and its model: made when they are first asked for.

Text is cut into shards by `sft-edge shard` itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.federated_digits import write_digits, write_pretrained
from benchmarks.federated_grid import CLIENTS, DATA_SETS, Run
from benchmarks.programs import command, last_line
from benchmarks.report import progress
from sft_common.errors import SftError


class Material:
    """Folders that runs share.

    Args:
        folder: for what is made.
        data: holds a folder of sst2 and one of mrpc.
        pretraining: epochs of the ViT on public digits.
    """

    def __init__(self, folder: Path, data: Path, *, pretraining: int) -> None:
        self._folder, self._data, self._pretraining = folder, data, pretraining

    def source(self, run: Run) -> Path:
        """Return the folder of the whole data set."""
        if DATA_SETS[run.data].model:
            return self._data / run.data
        place = self._folder / "digits"
        if not place.exists():
            write_digits(place)
        return place

    def model(self, run: Run) -> str:
        """Return what `--model` takes."""
        if DATA_SETS[run.data].model:
            return DATA_SETS[run.data].model
        place = self._folder / "small-vit"
        if not place.exists():
            accuracy = write_pretrained(place, epochs=self._pretraining)
            progress(f"the small ViT reads {accuracy:.1%} of digits that it has not seen")
        return str(place)

    def shards(self, run: Run) -> dict[str, Path]:
        """Return the folder of each client.

        Raises:
            SftError: the data are not there, or are not what they should be.
        """
        place = self._folder / f"{run.data}-{run.split}-{run.examples}-{run.seed}"
        if not place.exists():
            words: list[object] = ["--task", DATA_SETS[run.data].task, "--data", self.source(run)]
            words += ["--clients", CLIENTS, "--to", place, "--seed", run.seed]
            words += ["--train-examples", run.examples]
            words += [] if run.alpha is None else ["--dirichlet", run.alpha]
            line = command("sft_edge", "shard", *words)
            done = subprocess.run(line, capture_output=True, text=True)
            if done.returncode:
                raise SftError(f"sft-edge shard failed: {last_line(done.stderr)}")
        return {path.name: path for path in sorted(place.glob("client-*"))}
