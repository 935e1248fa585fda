"""Federation files that are wrong: each is refused in a line with the value and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft_cloud.catalog import ModelCatalog
from sft_cloud.federation.file import read_federation
from sft_cloud.federation.parts import numbers_for
from sft_cloud.federation.registry import Federations
from sft_common.errors import ForbiddenError, SftError
from sft_common.federation.plan import FederationPlan, uncoded
from sft_common.pb.sft.v1 import split_training_pb2 as pb
from tests.federated import write_file

SFPROMPT = {"method": "sfprompt", "cut": {"cut": "none", "split_layer": 1}}


def read(folder: Path, model: Path, **changes: Any) -> FederationPlan:
    return read_federation(write_file(folder / "f.toml", model, **changes), ModelCatalog().own).plan


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "fedsgd"}, "method is 'fedsgd'; it must be one of sfprompt, splitfed"),
        ({"rounds": "3"}, "rounds is '3'; it must be a whole number from 1 to 1000000"),
        ({"rounds": 2.5}, "rounds is 2.5; it must be a whole number"),
        ({"labels": ["a"]}, "1 labels: kind 'text' takes 2 to 65536"),
        ({"labels": ["a", "\x1b[2J"]}, "label '.x1b.2J': a label has 1 to 1024 printable"),
        ({"labels": "ab"}, "labels is 'ab'; it must be a list of names"),
        ({"clients": {"per_round": 2, "quorum": 3}}, "quorum: 3 is outside 1..2"),
        ({"clients": {"patiance": 3}}, "has 'patiance'; it takes minimum, patience_seconds"),
        ({"clients": {"per_round": 10**6}}, "per_round is 1000000; .* from 1 to 10000"),
        ({"training": {"keep": 0.5}}, "keep is of sfprompt alone, not of fedavg"),
        ({"training": {"max_length": 65}}, "max_length is 65; the model takes 64 tokens"),
        ({**SFPROMPT, "training": {"keep": 1.5}}, "share to keep: 1.5 is outside 1e-06..1"),
        ({"cut": {"cut": "sft"}}, "is not of fedavg: its clients have the whole model"),
        ({"method": "splitfed", "cut": {"rank": 99}}, r"f.toml: \[cut\] rank 99 is outside 1..32"),
        ({**SFPROMPT, "tail": {"split_layer": 1}}, "the tail's block must be above the head's"),
        ({"kind": "similarity"}, "kind 'similarity' has numbers to learn, no labels"),
        ({"kind": "image"}, "f.toml: models of family 'bert' have no image-classification head"),
        ({"name": "../up"}, "federation '../up': a name has 1 to 64 letters"),
        ({"privacy": {"clip": 1.0}}, r"\[privacy\] noise is missing; it must be a number"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    changes: dict[str, Any], said: str, tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(SftError, match=said) as refused:
        read(tmp_path, tiny_model, **changes)
    assert str(refused.value).startswith(str(tmp_path / "f.toml"))
    assert len(str(refused.value).splitlines()) == 1


class Led:
    """A federation whose client takes part, and where nothing is being calibrated."""

    def __init__(self, plan: FederationPlan) -> None:
        self.plan = plan

    def code_for(self, client: str, owner: str, incarnation: int) -> dict[str, Any]:
        return {}


def test_a_session_that_calibrates_may_be_opened_when_its_round_has_just_ended(
    tmp_path: Path, tiny_model: Path
) -> None:
    """It was refused as of another version, and its client ended."""
    plan = read(tmp_path, tiny_model, **SFPROMPT, tail={"cut": "stream", "rank": 4})
    led: Any = Led(plan)
    message = pb.Open(federation=pb.FederationPart(name="f", client="a"))
    for calibrates in (True, False):
        spec = plan.session(plan.seed, max_examples=4, max_tokens=9, calibrates=calibrates)
        assert spec.tail is not None and plan.tail is not None
        assert (spec.tail.split == uncoded(plan.tail.split)) == calibrates
        assert numbers_for(Federations([led]), message, spec, "").code == {}
    message.trained_session = "0123456789abcdef"
    with pytest.raises(ForbiddenError, match="starts from its numbers alone"):
        numbers_for(Federations([led]), message, spec, "")
