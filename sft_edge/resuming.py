"""The options of a run, kept so that it can be taken up again by its folder's name alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sft_common.errors import ConfigError, first_line
from sft_edge.run_files import METRICS_FILE, START_FILE

PLACES = ("data", "runs_dir", "tls_ca", "tls_cert", "tls_key", "token_file", "tensorboard")
"""Options that are paths, where they are not merely said."""

MAY_CHANGE = frozenset(
    {
        *("server", "connect_timeout", "reply_timeout", "keepalive", "keepalive_timeout"),
        *("retry_for", "retry_pause", "wait"),
        *("tls", "tls_ca", "tls_cert", "tls_key", "tls_name", "token_file", "insecure"),
        *("device", "snapshot_every", "snapshots", "log_every", "quiet", "json"),
        "tensorboard",
    }
)
"""Options that do not change what is trained."""

OF_ONE_START = frozenset({"command", "given", "resume", "detach"})
"""What the command line leaves beside options, and what is said of one start alone."""


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Return options as JSON can say them; places do not depend on where one is."""
    found = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in OF_ONE_START and not callable(value)
    }
    if options.model and Path(options.model).is_dir():
        found["model"] = str(Path(options.model).absolute())
    return found


def resumed_options(
    options: argparse.Namespace, parse: Callable[[argparse.Namespace], argparse.Namespace]
) -> argparse.Namespace:
    """Return the options of the run that `--resume` names, with those given anew in their place.

    Args:
        options: as they were given now.
        parse: reads them again, over others that hold where nothing was given.

    Raises:
        ConfigError: there is no such run, it has come to its end, or an option given now would
            change what is trained.
    """
    folder = Path(options.resume) if options.resume else _newest(options.runs_dir)
    facts = _start(folder)
    before = {
        name: Path(value) if name in PLACES and value and isinstance(value, str) else value
        for name, value in facts["options"].items()
    }
    now = parse(argparse.Namespace(**before))
    for name, value in before.items():
        if getattr(now, name) != value and name not in MAY_CHANGE:
            option = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{option} {getattr(now, name)} was given, but the run {folder} has {value}: a "
                f"resumed run goes on as it was; leave {option} out"
            )
    now.resume, now.session_id = folder, facts["session_id"]
    now.given = facts.get("arguments", [])
    return now


def _start(folder: Path) -> dict[str, Any]:
    if (folder / METRICS_FILE).exists() and not (folder / START_FILE).exists():
        raise ConfigError(f"run {folder} has come to its end: there is nothing to resume")
    try:
        facts: dict[str, Any] = json.loads((folder / START_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"run {folder} cannot be resumed: cannot read {START_FILE} ({first_line(error)})"
        ) from error
    return facts


def _newest(runs: Path) -> Path:
    """Return the folder of the run that was begun last and has not come to its end."""
    begun = sorted(runs.glob(f"*/{START_FILE}"), key=lambda path: path.stat().st_mtime)
    if not begun:
        raise ConfigError(f"there is no run in {runs} that could be resumed")
    return begun[-1].parent
