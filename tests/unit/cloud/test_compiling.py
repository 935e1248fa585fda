"""Compiled blocks, where there is a compiler, and what is said where there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sft_cloud import compiling
from sft_cloud.compiling import BUCKET, check_compiler, compile_blocks
from sft_common.config import SplitSpec
from sft_common.errors import DeviceError
from sft_common.model.loading import Pretrained
from tests.models import save_tiny_model

pytestmark = pytest.mark.filterwarnings("default")
"""torch, compiling, warns of its own parts."""

CPU = torch.device("cpu")


def test_compiled_blocks_give_the_same_and_keep_their_names(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("this machine has no g++")
    check_compiler(CPU)
    folder = save_tiny_model(tmp_path / "bert")
    pretrained = Pretrained(folder, num_labels=2, dropout=0.0)
    split = SplitSpec(split_layer=1, rank=4)
    plain, compiled = (pretrained.net2(split, seed=0, device=CPU)[0] for _ in range(2))
    assert compile_blocks(compiled, pretrained.family, split.split_layer) == BUCKET
    assert list(dict(compiled.named_parameters())) == list(dict(plain.named_parameters()))
    for length in (BUCKET, 2 * BUCKET):
        activation, mask = torch.randn(2, length, 4), torch.ones(2, length, dtype=torch.bool)
        expected, found = plain(activation, mask), compiled(activation, mask)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for net2, logits in ((plain, expected), (compiled, found)):
            net2.zero_grad()
            logits.sum().backward()
        gradients = dict(plain.named_parameters())
        for name, parameter in compiled.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad, gradients[name].grad, msg=name)


def test_images_have_no_buckets(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "vit", "vit", head="image-classification")
    pretrained = Pretrained(folder, num_labels=2, head="image-classification")
    net2, _ = pretrained.net2(SplitSpec(split_layer=1, rank=4), seed=0, device=CPU)
    assert compile_blocks(net2, pretrained.family, 1) == 1


def test_a_machine_that_cannot_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise RuntimeError("no g++ here\nmore")

    monkeypatch.setattr(compiling.torch, "compile", cannot)
    with pytest.raises(DeviceError, match="does not work here: no g\\+\\+ here; install"):
        check_compiler(CPU)
