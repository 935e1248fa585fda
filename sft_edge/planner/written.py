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

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft_common.config import CUTS, ENCODINGS
from sft_common.toml_file import LARGEST, Table, is_number, is_whole, read_toml
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
    file = read_toml("--from", path)
    file.only({"model", "batch", "link", "edge", "cloud"})
    model, link, batch = file.table("model"), file.table("link"), file.table("batch")
    more = {"layers", "example_logits", "token_logits", *Prepared._fields}
    model.only({*SIZES, *more})
    link.only({"up_mbit", "down_mbit", "round_trip_ms"})
    sizes, batches = _sizes(model), _batches(batch)
    layers = model.values.get("layers", list(range(1, sizes.blocks + 1)))
    if not _are_whole(layers, sizes.blocks):
        raise model.wrong("layers", layers, f"some of 1..{sizes.blocks}")
    longest = max(max(batch) for batch in batches)
    return Scene(
        sizes=sizes,
        batches=batches,
        link=Link(
            round_trip_seconds=link.number("round_trip_ms") / 1e3,
            up_bytes_per_second=link.number("up_mbit", least=LEAST) / 8e-6,
            down_bytes_per_second=link.number("down_mbit", least=LEAST) / 8e-6,
        ),
        edge=_edge(file.table("edge"), sizes, longest),
        cloud=_cloud(file.table("cloud"), sizes, longest),
        layers=tuple(sorted(set(layers))),
        largest=batch.whole("largest") if "largest" in batch else 0,
        prepared=_prepared(model),
    )


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


def _sizes(model: Table) -> Sizes:
    def whole(name: str, least: int = 1) -> int:
        return model.whole(name, least=least, most=MOST.get(name, int(LARGEST)))

    blocks = whole("blocks")
    return Sizes(
        name=model.text("name"),
        blocks=blocks,
        hidden=whole("hidden"),
        base_parameters=whole("base_parameters"),
        block_parameters=whole("block_parameters", least=0 if blocks == 1 else 1),
        top_parameters=whole("top_parameters"),
        example_logits=model.number("example_logits", 0.0),
        token_logits=model.number("token_logits", 0.0),
    )


def _prepared(model: Table) -> Prepared | None:
    if "cut" not in model:
        return None
    cut = model.choice("cut", CUTS)
    return Prepared(cut, model.whole("rank"), model.switch("healed", False))


def _batches(batch: Table) -> tuple[Lengths, ...]:
    batch.only({"examples", "tokens", "lengths", "largest"})
    if "lengths" not in batch:
        examples = batch.whole("examples", most=MOST["examples"])
        return ((batch.whole("tokens", most=MOST["tokens"]),) * examples,)
    lengths, most = batch.values["lengths"], MOST["tokens"]
    if not (isinstance(lengths, list) and lengths and all(_are_whole(r, most) for r in lengths)):
        raise batch.wrong("lengths", lengths, f"lists of whole numbers, 1 to {most}")
    return tuple(tuple(row) for row in lengths)


def _edge(edge: Table, sizes: Sizes, longest: int) -> Edge:
    more = {"late_update_ms", "base_token_bytes", "block_token_bytes"}
    more |= {"codec_ns", "dropout_factor"}
    edge.only({"name", "memory_gb", "teraflops", "base", "block", *more})
    base, block = _works(edge, "base", sizes, longest, ATTENTION)
    kept = 4.0 * KEPT_WIDTHS * sizes.hidden
    return Edge(
        name=str(edge.values.get("name", "edge")),
        memory_bytes=round(edge.number("memory_gb") * 1e9),
        base=base,
        block=block,
        late=edge.number("late_update_ms", 0.0) / 1e3,
        base_token_bytes=edge.number("base_token_bytes", kept * ATTENTION),
        block_token_bytes=edge.number("block_token_bytes", kept),
        dropout_factor=edge.number("dropout_factor", 1.0),
        codec=_codec(edge.table("codec_ns", missing=True)),
    )


def _codec(table: Table) -> dict[str, float]:
    table.only(ENCODINGS)
    return {name: table.number(name) / 1e9 for name in table.values}


def _cloud(cloud: Table, sizes: Sizes, longest: int) -> Cloud:
    more = {"top_step_gb", "block_step_gb"}
    cloud.only({"name", "memory_gb", "teraflops", "top", "block", *more})
    top, block = _works(cloud, "top", sizes, longest, 1 - ATTENTION)
    return Cloud(
        name=str(cloud.values.get("name", "cloud")),
        memory_bytes=round(cloud.number("memory_gb") * 1e9),
        top=top,
        block=block,
        top_step_bytes=round(cloud.number("top_step_gb", 0.0) * 1e9),
        block_step_bytes=round(cloud.number("block_step_gb", 0.0) * 1e9),
    )


def _works(device: Table, part: str, sizes: Sizes, longest: int, share: float) -> tuple[Work, Work]:
    """Return what a share of the split block, and a block more, take of a device."""
    if "teraflops" not in device:
        return _work(device, part), _work(device, "block")
    for name in (part, "block"):
        if name in device:
            raise device.error(
                f"{device.label} has both teraflops and {name}; leave one of them out"
            )
    flops = device.number("teraflops", least=LEAST) * 1e12
    token = (2 * sizes.block_parameters + 4 * longest * sizes.hidden) / flops
    block = Work(Line(0.0, token), Line(0.0, BACKWARD * token))
    return Work().plus(block, share), block


def _work(device: Table, part: str) -> Work:
    if not isinstance(device.values.get(part), Mapping):
        where = f"[{device.label.strip('[]')}.{part}]"
        raise device.error(f"{device.label} has neither teraflops nor a table {where}; write one")
    table = device.table(part)
    table.only({"forward", "backward", "update"})
    forward, backward = _line(table, "forward"), _line(table, "backward")
    return Work(forward, backward, table.number("update", 0.0) / 1e3)


def _line(table: Table, name: str) -> Line:
    line = table.values.get(name)
    if not (isinstance(line, list) and len(line) == 2 and all(map(is_number, line))):
        wanted = f"[milliseconds, microseconds a token], 0 to {LARGEST:g}"
        raise table.wrong(name, line, wanted)
    return Line(line[0] / 1e3, line[1] / 1e6)


def _are_whole(values: object, most: int) -> bool:
    return isinstance(values, list) and bool(values) and all(is_whole(n, most) for n in values)


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
