"""Scenes as files: there and back, and what is wrong with one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sft_common.errors import ConfigError
from sft_edge.planner.choice import choose
from sft_edge.planner.scene import Line
from sft_edge.planner.setting import Asked
from sft_edge.planner.written import read_scene, scene_text
from tests.unit.edge.planner.scenes import scene

SHORT = """
[model]
name = "bert-base-uncased"
blocks = 12
hidden = 768
base_parameters = 26202624
block_parameters = 7087872
top_parameters = 5317634

[batch]
examples = 32
tokens = 66

[link]
up_mbit = 1000
down_mbit = 500
round_trip_ms = 1

[edge]
memory_gb = 8
teraflops = 0.5

[cloud]
memory_gb = 32
teraflops = 10
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scene.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_scene_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = scene()
    again = read_scene(written(tmp_path, scene_text(known)))
    assert again.sizes == known.sizes and again.batches == known.batches
    assert again.link.up_bytes_per_second == pytest.approx(known.link.up_bytes_per_second)
    plans, same = (choose(each, Asked()) for each in (known, again))
    assert [each.setting for each in plans.ranked] == [each.setting for each in same.ranked]
    assert plans.yardsticks.local_seconds == pytest.approx(same.yardsticks.local_seconds)


def test_a_model_of_one_block_is_read_as_it_was_written(tmp_path: Path) -> None:
    sizes = dataclasses.replace(scene().sizes, blocks=1, block_parameters=0)
    known = dataclasses.replace(scene(), sizes=sizes, layers=(1,))
    assert read_scene(written(tmp_path, scene_text(known))).sizes == sizes


def test_teraflops_become_times(tmp_path: Path) -> None:
    found = read_scene(written(tmp_path, SHORT))
    token = (2 * 7_087_872 + 4 * 66 * 768) / 0.5e12
    assert found.edge.block.forward == Line(0.0, pytest.approx(token))
    assert found.edge.block.backward.token == pytest.approx(2 * token)
    assert found.edge.base.forward.token == pytest.approx(token / 3)
    assert found.cloud.top.forward.token == pytest.approx(token / 30)
    assert found.batches == ((66,) * 32,)
    assert found.link.down_bytes_per_second == 62.5e6


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[link]", "[lnk]", "has 'lnk'; it takes batch, cloud, edge, link, model"),
        ("up_mbit = 1000", "", r"\[link\] up_mbit is missing; it must be a number from 1e-09"),
        ("up_mbit = 1000", "up_mbit = 0", r"\[link\] up_mbit is 0; it must be a number from 1e-09"),
        ("up_mbit = 1000", "up_mbit = inf", "it must be a number from 1e-09 to 1e\\+12"),
        ("round_trip_ms = 1", "round_trip_ms = -1", "round_trip_ms is -1; .* number from 0 to"),
        ("blocks = 12", "blocks = 1.5", r"\[model\] blocks is 1.5; .* whole number from 1 to 1000"),
        ("blocks = 12", "blocks = true", r"\[model\] blocks is True"),
        ("tokens = 66", "token = 66", r"\[batch\] has 'token'"),
        ("tokens = 66", "lengths = [[0]]", r"\[batch\] lengths is \[\[0\]\]"),
        ("teraflops = 0.5", "", r"\[edge\] has neither teraflops nor a table \[edge.base\]"),
        ("teraflops = 0.5", "teraflops = 1\nbase = {}", "both teraflops and base"),
        ("teraflops = 0.5", "base = {forward = [1]}", r"forward is \[1\]; .* microseconds a token"),
        ('name = "bert-base-uncased"', "name = 3", r"\[model\] name is 3; it must be a text"),
        ("hidden = 768", "hidden = 768\nlayers = [13]", r"layers is \[13\]; .* 1..12"),
        ("hidden = 768", "hidden = 768\nlayers = 3", r"layers is 3; .* 1..12"),
        ("hidden = 768", "hidden 768", "is no TOML"),
        ("hidden = 768", "hidden = 0x" + "f" * 5000, "thousands of digits"),
        ("blocks = 12", "blocks = 1000000000", "blocks is 1000000000; .* 1 to 1000"),
        ("examples = 32", "examples = 1" + "0" * 30, "examples is 1000"),
        ("memory_gb = 8", "memory_gb = 1e308", r"\[edge\] memory_gb is 1e\+308"),
        ("memory_gb = 8", "memory_gb = nan", r"\[edge\] memory_gb is nan"),
        ("memory_gb = 8", "memory_gb = true", r"\[edge\] memory_gb is True"),
        ("tokens = 66", "lengths = [[3], 4]", r"lengths is \[\[3\], 4\]"),
        ("tokens = 66", "tokens = " + "[" * 5000, "is no TOML"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SHORT
    path = written(tmp_path, SHORT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        read_scene(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from .*nothing.toml: No such file"):
        read_scene(tmp_path / "nothing.toml")
