"""The device, and the memory that net1 takes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sft_common.errors import DeviceError, ModelError
from sft_common.model.loading import Pretrained
from sft_edge import device
from sft_edge.defaults import usual_split
from sft_edge.doctor import here
from sft_edge.doctor.finding import Verdict, checked
from sft_edge.doctor.here import check_device, check_memory, net1_bytes


def test_the_device_is_there_or_not() -> None:
    assert check_device("cpu").verdict is Verdict.OK
    with pytest.raises(DeviceError):
        check_device("cuda:77")
    finding = checked("device", lambda: check_device("tpu"))
    assert finding.verdict is Verdict.WRONG and "use --device cpu" in finding.found


def test_net1_takes_sixteen_bytes_for_each_parameter_that_trains(tiny_model: Path) -> None:
    pretrained = Pretrained(tiny_model, num_labels=2)
    where, needed = net1_bytes(str(tiny_model))
    split = usual_split(here.shape_of(pretrained.config))
    net1 = pretrained.net1(split)
    assert needed == 16 * sum(parameter.numel() for parameter in net1.skeleton.parameters())
    assert where.startswith(f"cut stream in block {split.split_layer} of ")


@pytest.mark.parametrize(
    ("share", "verdict"), [(3.0, Verdict.OK), (1.5, Verdict.WARNING), (0.5, Verdict.WRONG)]
)
def test_memory_against_what_net1_takes(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, share: float, verdict: Verdict
) -> None:
    _, needed = net1_bytes(str(tiny_model))
    monkeypatch.setattr(device, "available_bytes", lambda: int(share * needed))
    finding = check_memory("cpu", str(tiny_model), 60)
    assert finding.verdict is verdict
    assert bool(finding.advice) == (verdict is not Verdict.OK)


def test_without_a_model_what_is_free_is_said() -> None:
    finding = check_memory("cpu", None, 60)
    assert finding.verdict is Verdict.OK and "--model says whether" in finding.found


def test_a_model_that_is_not_there_is_wrong() -> None:
    with pytest.raises(ModelError):
        check_memory("cpu", "../nowhere", 60)


def test_a_system_that_does_not_say_what_is_free_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden() -> int:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(device, "available_bytes", hidden)
    finding = checked("memory", lambda: check_memory("cpu", None, 60))
    assert finding.verdict is Verdict.SKIPPED and "/proc/meminfo" in finding.found


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(model: str) -> tuple[str, int]:
        over.wait(60)
        return model, 0

    monkeypatch.setattr(here, "net1_bytes", slow)
    finding = checked("memory", lambda: check_memory("cpu", "far/away", 0.1))
    over.set()
    assert finding.verdict is Verdict.SKIPPED
    assert "longer than 0.1 s (--connect-timeout)" in finding.found
