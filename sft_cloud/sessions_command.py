"""`sft-cloud sessions`: list and delete, through a running cloud, or in the folder of none."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sft_cloud.admin_socket import socket_path
from sft_cloud.forgetting import DAY_SECONDS
from sft_cloud.kept import alone_with
from sft_cloud.overview import summaries_of_folder
from sft_cloud.status import facts_of, plain_table
from sft_cloud.store import Store
from sft_common.errors import ConfigError, UnreachableError, first_line
from sft_common.pb.sft.v1 import operations_pb2 as pb


@dataclass(frozen=True, kw_only=True, slots=True)
class Sessions:
    """The sessions of a cloud, running or not."""

    list: Callable[[], Sequence[pb.SessionSummary]]
    """All of them."""

    delete: Callable[[str], bool]
    """Deletes one; says whether there was one."""


def run_list(options: argparse.Namespace) -> None:
    """List sessions with the options of `sft-cloud sessions list`.

    Raises:
        SftError: there is no such folder, or its cloud does not answer.
    """
    with sessions_of(options) as sessions:
        found = sessions.list()
    if options.json:
        print(json.dumps([facts_of(summary) for summary in found], indent=2))
    else:
        print(plain_table(found))


def run_delete(options: argparse.Namespace) -> None:
    """Delete sessions with the options of `sft-cloud sessions delete`.

    Raises:
        SftError: nothing says which, a name is unknown, or nobody has agreed.
    """
    if not (options.sessions or options.owner is not None or options.older_than is not None):
        raise ConfigError("which sessions? give names, --owner NAME or --older-than DAYS")
    with sessions_of(options) as sessions:
        chosen = chosen_of(sessions.list(), options)
        if not chosen:
            print("no session fits; nothing was deleted")
            return
        if not options.yes:
            _ask(chosen)
        for summary in chosen:
            deleted = sessions.delete(summary.session_id)
            print(f"{summary.session_id} {'deleted' if deleted else 'was gone already'}")


def chosen_of(
    found: Sequence[pb.SessionSummary], options: argparse.Namespace
) -> list[pb.SessionSummary]:
    """Return the sessions that all of the options name.

    Raises:
        ConfigError: a name is not there.
    """
    known = {summary.session_id for summary in found}
    for name in options.sessions:
        if name not in known:
            raise ConfigError(f"there is no session {name[:40]!r}; nothing was deleted")
    seconds = None if options.older_than is None else options.older_than * DAY_SECONDS
    return [
        summary
        for summary in found
        if (not options.sessions or summary.session_id in options.sessions)
        and (options.owner is None or summary.owner == options.owner)
        and (seconds is None or summary.idle_seconds >= seconds)
    ]


@contextmanager
def sessions_of(options: argparse.Namespace) -> Iterator[Sessions]:
    """Yield the sessions of the cloud that options name, or of its folder if it does not run.

    Raises:
        ConfigError: there is no such folder, or a cloud without a socket works on it.
        UnreachableError: the cloud does not answer.
    """
    path = socket_path(options.admin_socket, options.save_dir)
    if path is not None and path.is_socket():
        from sft_cloud.admin_client import admin_of

        with ExitStack() as open_now:
            try:
                admin = open_now.enter_context(admin_of(path, options.timeout))
                admin.status()
            except UnreachableError:
                if options.admin_socket:
                    raise
                # Of a cloud that was killed; a running one still holds the folder's lock.
            else:
                yield Sessions(list=admin.sessions, delete=admin.delete)
                return
    elif options.admin_socket:
        raise UnreachableError(f"no cloud runs there: {path} is no socket")
    with _folder(options.save_dir) as store:
        yield Sessions(
            list=lambda: summaries_of_folder(store), delete=lambda name: _delete(store, name)
        )


@contextmanager
def _folder(folder: Path) -> Iterator[Store]:
    if not folder.is_dir():
        raise ConfigError(f"--save-dir {folder}: there is no such folder")
    with alone_with(folder):
        yield Store(folder)


def _delete(store: Store, name: str) -> bool:
    found = store.has(name)
    try:
        store.delete(name)
    except OSError as error:
        raise ConfigError(
            f"session {name} cannot be deleted: {error.strerror or first_line(error)}"
        ) from error
    return found


def _ask(chosen: Sequence[pb.SessionSummary]) -> None:
    """Have a person agree.

    Raises:
        ConfigError: nobody is there, or does not want it.
    """
    if not sys.stdin.isatty():
        raise ConfigError(f"{len(chosen)} sessions would be deleted; give --yes to agree")
    print(plain_table(chosen))
    if input(f"delete {len(chosen)} sessions for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was deleted")
