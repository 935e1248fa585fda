"""A scene as a TOML file that a person can write: devices that are not there, links one thinks of.

    [model]   name, blocks, hidden, base_parameters, block_parameters, top_parameters
    [batch]   examples and tokens (of each), or lengths = [[...], ...], real tokens by batch
    [link]    up_mbit, down_mbit (10**6 bits a second), round_trip_ms
    [edge]    name, memory_gb (10**9 bytes), and teraflops (10**12 a second, as reached) or times
    [cloud]   as the edge

Times are tables: edge.base, edge.block, cloud.top and cloud.block, each with forward and backward,
[milliseconds of a micro-batch, microseconds more for each of its tokens], and update, milliseconds
a step. There may also be

    [model]   layers that can be cut; example_logits, token_logits; cut, rank and healed of one that
              was prepared
    [batch]   largest, tokens of the largest batch
    [edge]    late_update_ms, base_token_bytes, block_token_bytes, codec_ns: encoding = nanoseconds;
              dropout_factor, of net1's passes where it has dropout
    [cloud]   top_step_gb, block_step_gb: what it reserves for a step
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from sft_common.config import CUTS, ENCODINGS
from sft_common.errors import ConfigError, first_line
from sft_common.files import read_named
from sft_edge.link import Link
from sft_edge.planner.scene import (
    BACKWARD,
    Cloud,
    Edge,
    Lengths,
    Line,
    Prepared,
    Scene,
    Sizes,
    Work,
)

ATTENTION = 1 / 3
"""Share of a block that its attention is, where only teraflops are written: 4 of 12 N x N
weights."""

LARGEST = 1e12
"""Of any number; what is larger is no device, and its sums are no numbers."""

LEAST = 1e-9
"""Of a number that something is divided by."""

MOST = {"blocks": 1000, "hidden": 10**6, "examples": 10**5, "tokens": 10**6}
"""Of whole numbers that say how much is computed here."""

KEPT_WIDTHS = 34
"""Numbers that a block keeps of a token, in hidden widths, where nothing is written of them: about
what BERT does, attention scores left out."""


def read_scene(path: Path) -> Scene:
    """Return the scene that a file describes.

    Raises:
        ConfigError: it is not to be read, or something is missing, unknown or no number.
    """
    try:
        known = tomllib.loads(read_named("--from", path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--from {path} is no TOML: {first_line(error)}") from error
    return _Reader(str(path)).scene(known)


def scene_text(scene: Scene) -> str:
    """Return a scene as `read_scene` reads it."""
    sizes, link, edge, cloud = scene.sizes, scene.link, scene.edge, scene.cloud
    tables: dict[str, dict[str, Any]] = {
        "model": {name: getattr(sizes, name) for name in SIZES}
        | {"example_logits": sizes.example_logits, "token_logits": sizes.token_logits}
        | {"layers": list(scene.layers)}
        | (scene.prepared._asdict() if scene.prepared else {}),
        "batch": {"lengths": [list(batch) for batch in scene.batches], "largest": scene.longest},
        "link": {
            "up_mbit": link.up_bytes_per_second * 8e-6,
            "down_mbit": link.down_bytes_per_second * 8e-6,
            "round_trip_ms": link.round_trip_seconds * 1e3,
        },
        "edge": {
            "name": edge.name,
            "memory_gb": edge.memory_bytes / 1e9,
            "late_update_ms": edge.late * 1e3,
            "base_token_bytes": edge.base_token_bytes,
            "block_token_bytes": edge.block_token_bytes,
            "dropout_factor": edge.dropout_factor,
        },
        "edge.base": _work_table(edge.base),
        "edge.block": _work_table(edge.block),
        "edge.codec_ns": {name: seconds * 1e9 for name, seconds in edge.codec.items()},
        "cloud": {
            "name": cloud.name,
            "memory_gb": cloud.memory_bytes / 1e9,
            "top_step_gb": cloud.top_step_bytes / 1e9,
            "block_step_gb": cloud.block_step_bytes / 1e9,
        },
        "cloud.top": _work_table(cloud.top),
        "cloud.block": _work_table(cloud.block),
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


SIZES = ("name", "blocks", "hidden", "base_parameters", "block_parameters", "top_parameters")


class _Reader:
    """Reads a scene, and says where it cannot.

    Args:
        place: the file, for messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    def scene(self, known: Mapping[str, Any]) -> Scene:
        """Return the scene of a whole file."""
        self._only("the file", known, {"model", "batch", "link", "edge", "cloud"})
        model, link = self._table(known, "model"), self._table(known, "link")
        more = {"layers", "example_logits", "token_logits", *Prepared._fields}
        self._only("[model]", model, {*SIZES, *more})
        self._only("[link]", link, {"up_mbit", "down_mbit", "round_trip_ms"})
        sizes = self._sizes(model)
        batches = self._batches(self._table(known, "batch"))
        layers = model.get("layers", list(range(1, sizes.blocks + 1)))
        if not _are_whole(layers, sizes.blocks):
            raise self._wrong("[model] layers", layers, f"some of 1..{sizes.blocks}")
        longest = max(max(batch) for batch in batches)
        return Scene(
            sizes=sizes,
            batches=batches,
            link=Link(
                round_trip_seconds=self._number("[link]", link, "round_trip_ms") / 1e3,
                up_bytes_per_second=self._number("[link]", link, "up_mbit", least=LEAST) / 8e-6,
                down_bytes_per_second=self._number("[link]", link, "down_mbit", least=LEAST) / 8e-6,
            ),
            edge=self._edge(self._table(known, "edge"), sizes, longest),
            cloud=self._cloud(self._table(known, "cloud"), sizes, longest),
            layers=tuple(sorted(set(layers))),
            largest=self._largest(self._table(known, "batch")),
            prepared=self._prepared(model),
        )

    def _sizes(self, model: Mapping[str, Any]) -> Sizes:
        name = model.get("name")
        if not isinstance(name, str):
            raise self._wrong("[model] name", name, "a text")
        return Sizes(
            name=name,
            example_logits=self._number("[model]", model, "example_logits", 0.0),
            token_logits=self._number("[model]", model, "token_logits", 0.0),
            **{size: self._whole("[model]", model, size) for size in SIZES[1:]},
        )

    def _prepared(self, model: Mapping[str, Any]) -> Prepared | None:
        if "cut" not in model:
            return None
        if model["cut"] not in CUTS:
            raise self._wrong("[model] cut", model["cut"], f"one of {', '.join(CUTS)}")
        healed = model.get("healed", False)
        if type(healed) is not bool:
            raise self._wrong("[model] healed", healed, "true or false")
        return Prepared(model["cut"], self._whole("[model]", model, "rank"), healed)

    def _largest(self, batch: Mapping[str, Any]) -> int:
        return self._whole("[batch]", batch, "largest") if "largest" in batch else 0

    def _batches(self, batch: Mapping[str, Any]) -> tuple[Lengths, ...]:
        self._only("[batch]", batch, {"examples", "tokens", "lengths", "largest"})
        if "lengths" not in batch:
            examples = self._whole("[batch]", batch, "examples")
            return ((self._whole("[batch]", batch, "tokens"),) * examples,)
        lengths = batch["lengths"]
        most = MOST["tokens"]
        if not (
            isinstance(lengths, list) and lengths and all(_are_whole(r, most) for r in lengths)
        ):
            raise self._wrong("[batch] lengths", lengths, f"lists of whole numbers, 1 to {most}")
        return tuple(tuple(row) for row in lengths)

    def _edge(self, edge: Mapping[str, Any], sizes: Sizes, longest: int) -> Edge:
        more = {"late_update_ms", "base_token_bytes", "block_token_bytes"}
        more |= {"codec_ns", "dropout_factor"}
        self._only("[edge]", edge, {"name", "memory_gb", "teraflops", "base", "block", *more})
        base, block = self._works("edge", edge, "base", sizes, longest, ATTENTION)
        kept = 4.0 * KEPT_WIDTHS * sizes.hidden
        return Edge(
            name=str(edge.get("name", "edge")),
            memory_bytes=round(self._number("[edge]", edge, "memory_gb") * 1e9),
            base=base,
            block=block,
            late=self._number("[edge]", edge, "late_update_ms", 0.0) / 1e3,
            base_token_bytes=self._number("[edge]", edge, "base_token_bytes", kept * ATTENTION),
            block_token_bytes=self._number("[edge]", edge, "block_token_bytes", kept),
            dropout_factor=self._number("[edge]", edge, "dropout_factor", 1.0),
            codec=self._codec(edge.get("codec_ns", {})),
        )

    def _codec(self, table: object) -> dict[str, float]:
        if not isinstance(table, Mapping):
            raise self._wrong("[edge] codec_ns", table, "a table of encodings")
        self._only("[edge.codec_ns]", table, set(ENCODINGS))
        return {name: self._number("[edge.codec_ns]", table, name) / 1e9 for name in table}

    def _cloud(self, cloud: Mapping[str, Any], sizes: Sizes, longest: int) -> Cloud:
        more = {"top_step_gb", "block_step_gb"}
        self._only("[cloud]", cloud, {"name", "memory_gb", "teraflops", "top", "block", *more})
        top, block = self._works("cloud", cloud, "top", sizes, longest, 1 - ATTENTION)
        return Cloud(
            name=str(cloud.get("name", "cloud")),
            memory_bytes=round(self._number("[cloud]", cloud, "memory_gb") * 1e9),
            top=top,
            block=block,
            top_step_bytes=round(self._number("[cloud]", cloud, "top_step_gb", 0.0) * 1e9),
            block_step_bytes=round(self._number("[cloud]", cloud, "block_step_gb", 0.0) * 1e9),
        )

    def _works(
        self,
        side: str,
        device: Mapping[str, Any],
        part: str,
        sizes: Sizes,
        longest: int,
        share: float,
    ) -> tuple[Work, Work]:
        """Return what a share of the split block, and a block more, take of a device."""
        if "teraflops" not in device:
            return self._work(side, device, part), self._work(side, device, "block")
        for name in (part, "block"):
            if name in device:
                raise ConfigError(
                    f"{self._place}: [{side}] has both teraflops and {name}; leave one of them out"
                )
        flops = self._number(f"[{side}]", device, "teraflops", least=LEAST) * 1e12
        token = (2 * sizes.block_parameters + 4 * longest * sizes.hidden) / flops
        block = Work(Line(0.0, token), Line(0.0, BACKWARD * token))
        return Work().plus(block, share), block

    def _work(self, side: str, device: Mapping[str, Any], part: str) -> Work:
        where = f"[{side}.{part}]"
        table = device.get(part)
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"{self._place}: [{side}] has neither teraflops nor a table {where}; write one"
            )
        self._only(where, table, {"forward", "backward", "update"})
        lines = []
        for name in ("forward", "backward"):
            line = table.get(name)
            if not (isinstance(line, list) and len(line) == 2 and all(map(_is_number, line))):
                raise self._wrong(
                    f"{where} {name}",
                    line,
                    f"[milliseconds, microseconds a token], 0 to {LARGEST:g}",
                )
            lines.append(Line(line[0] / 1e3, line[1] / 1e6))
        return Work(lines[0], lines[1], self._number(where, table, "update", 0.0) / 1e3)

    def _table(self, known: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        table = known.get(name)
        if not isinstance(table, Mapping):
            raise ConfigError(f"{self._place} has no table [{name}]")
        return table

    def _only(self, where: str, table: Mapping[str, Any], names: set[str]) -> None:
        if unknown := table.keys() - names:
            raise ConfigError(
                f"{self._place}: {where} has {min(unknown)!r}; it takes {', '.join(sorted(names))}"
            )

    def _number(
        self,
        where: str,
        table: Mapping[str, Any],
        name: str,
        default: float | None = None,
        *,
        least: float = 0.0,
    ) -> float:
        value: Any = table.get(name, default)
        if not _is_number(value) or value < least:
            wanted = f"a number from {least:g} to {LARGEST:g}"
            raise self._wrong(f"{where} {name}", value, wanted)
        return float(value)

    def _whole(self, where: str, table: Mapping[str, Any], name: str) -> int:
        value, most = table.get(name), MOST.get(name, int(LARGEST))
        if name == "block_parameters" and value == 0:  # of a model of one block
            return 0
        if not _is_whole(value, most):
            raise self._wrong(f"{where} {name}", value, f"a whole number from 1 to {most}")
        return int(value)

    def _wrong(self, what: str, value: object, wanted: str) -> ConfigError:
        said = "is missing" if value is None else f"is {_short(value)}"
        return ConfigError(f"{self._place}: {what} {said}; it must be {wanted}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value <= LARGEST


def _is_whole(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and type(value) is not bool and 1 <= value <= most


def _are_whole(values: object, most: int) -> bool:
    return isinstance(values, list) and bool(values) and all(_is_whole(n, most) for n in values)


def _short(value: object) -> str:
    try:
        return str(value)[:80]
    except ValueError:  # an integer of thousands of digits
        return "a number of thousands of digits"


def _work_table(work: Work) -> dict[str, Any]:
    forward, backward = (
        [round(line.fixed * 1e3, 6), round(line.token * 1e6, 6)]
        for line in (work.forward, work.backward)
    )
    return {"forward": forward, "backward": backward, "update": work.update * 1e3}


def _value(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(round(value, 6)) if isinstance(value, float) else str(value)
