"""The numbers of both sides' shares of a cut, computed once for all who hold one. It knows no RPC.

Letters: N hidden width, H feed-forward width, R rank.
"""

from __future__ import annotations

from torch import Tensor

from sft_common.config import SplitSpec
from sft_common.errors import ConfigError
from sft_common.model.cuts import CUT_TABLE, Basis, factor
from sft_common.model.loading import Pretrained

Code = dict[str, Tensor]
"""Stock name of a parameter of a cut -> its numbers, of both sides."""


def code_of(pretrained: Pretrained, split: SplitSpec, basis: Basis | None = None) -> Code:
    """Return the numbers of a cut; none where it codes nothing.

    Args:
        pretrained: the model.
        split: where and how it is cut.
        basis: mean (N,), E (N, R) and D (R, N), for the cuts that have a basis.

    Returns:
        "<block>.cut.u" (N or H, R), ".sigma" (R, R) and ".v" of factors; ".encoder" (N, R),
        ".offset" (R,), ".decoder" (R, N) and ".mean" (N,) of a basis.

    Raises:
        ConfigError: the cut needs a basis and none came, or the other way round.
        ModelError: the checkpoint lacks the weight that is factored.
    """
    cut, block = CUT_TABLE[split.cut], pretrained.block_name(split)
    if (basis is not None) != (cut.code == "basis"):
        raise ConfigError(f"cut {split.cut} {'takes no' if basis else 'needs a'} basis")
    found: Code = {}
    if basis is not None:
        found = {
            "encoder": basis.encoder,
            "offset": -basis.mean @ basis.encoder,
            "decoder": basis.decoder,
            "mean": basis.mean,
        }
    elif cut.code == "factors":
        read = pretrained.checkpoint.read
        weight = cut.weight(
            pretrained.family.block, lambda path: read(f"{block}.{path}.weight").float()
        )
        found = factor(weight, split.rank)._asdict()
    return {f"{block}.cut.{name}": value for name, value in found.items()}
