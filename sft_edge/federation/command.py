"""The `join` command: take part in a federation, and keep what came of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import transformers

from sft_common import __version__
from sft_common.commandline import Stopped
from sft_common.errors import ConfigError
from sft_common.federation.plan import FederationPlan, UpdatePrivacy, check_name
from sft_common.rpc.federation import plan_digest
from sft_edge.federation.attendance import Attendance
from sft_edge.federation.calls import Member, describe
from sft_edge.federation.client import Client
from sft_edge.federation.fedavg import FedAvg
from sft_edge.federation.folder import ClientFolder
from sft_edge.federation.material import Material, gather
from sft_edge.federation.method import Method
from sft_edge.federation.protected import Protected
from sft_edge.federation.sessions import Person
from sft_edge.federation.sfprompt import SFPrompt
from sft_edge.federation.splitfed import SplitFed
from sft_edge.login import edge_access
from sft_edge.outcome import peak_rss_bytes
from sft_edge.retrying import Retry
from sft_edge.screen import make_screen
from sft_edge.stopping import Stopper
from sft_edge.traffic import Traffic


def run_join(options: argparse.Namespace) -> None:
    """Take part in a federation with the options of `sft-edge join`.

    Raises:
        SftError: bad input, or the cloud refused or was lost; the message says which.
        Stopped: somebody stopped it.
    """
    transformers.logging.set_verbosity_error()
    check_name("client", options.client)
    access = edge_access(options, options.server)
    plan = describe(access, options.federation)
    material = gather(options, access, plan)
    folder = ClientFolder(options.runs_dir / f"{plan.name}-{options.client}", plan.name)
    with folder.locked():
        metrics = _take_part(material, folder)
    if options.json:
        print(json.dumps(metrics, indent=2))
    elif not options.quiet:
        print(_summary(metrics, folder))


def _take_part(material: Material, folder: ClientFolder) -> dict[str, Any]:
    """Take part until the end; returns what metrics.json then holds."""
    options, plan = material.options, material.plan
    working, attending = Traffic(), Traffic()
    member = Member(plan.name, options.client, secrets.randbits(63), plan_digest(plan))
    begin = time.perf_counter()
    with Stopper() as stopper, make_screen("federation", 1, quiet=options.quiet) as screen:
        screen.say(_headline(material))
        person = Person(say=screen.say, stopped=stopper.asked)
        method: Method = method_of(material, member, working, person)
        protected = None
        if plan.privacy is not None:
            method = protected = Protected(method, plan.privacy, folder)
        attendance = Attendance(
            material.access, member, material.model, Retry.of(options), screen.say, attending
        )
        client = Client(
            material,
            member,
            method,
            attendance,
            (working, attending),
            say=screen.say,
            log=folder.log,
            stopped=stopper.asked,
        )
        try:
            average = client.run()
        finally:
            attendance.close()
    if average is None:
        raise Stopped(f"stopped; join again as --client {options.client} to go on")
    metrics = _metrics(material, client, time.perf_counter() - begin)
    metrics["privacy"] = _privacy(plan.privacy, protected)
    folder.save(average, metrics)
    return metrics


def method_of(material: Material, member: Member, traffic: Traffic, person: Person) -> Method:
    """Return what the plan's method does on a client.

    Raises:
        ConfigError: this version does not know the method.
    """
    match material.plan.method:
        case "fedavg":
            return FedAvg(material)
        case "sfprompt":
            return SFPrompt(material, member, traffic, person)
        case "splitfed" | "splitfed-shared":
            return SplitFed(material, member, traffic, person)
        case other:
            raise ConfigError(f"this version does not know method {other}; update it")


def _headline(material: Material) -> str:
    plan = material.plan
    return (
        f"federation {plan.name} at {material.options.server}: {plan.words()}, {plan.rounds} "
        f"rounds; client {material.options.client} has {len(material.data.train)} examples"
    )


def _metrics(material: Material, client: Client, seconds: float) -> dict[str, Any]:
    plan: FederationPlan = material.plan
    up, down = client.moved
    return {
        "federation": plan.name,
        "client": material.options.client,
        "method": plan.method,
        "cuts": plan.words(),
        "task": material.task.name,
        "model": plan.model.name,
        "examples": len(material.data.train),
        "rounds": client.rounds,
        "of_rounds": plan.rounds,
        "metric": client.last,
        "bytes": {"up": up, "down": down},
        "seconds": round(seconds, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }


def _privacy(spec: UpdatePrivacy | None, protected: Protected | None) -> dict[str, Any] | None:
    """Return what all that was handed in may have given away; None: there was no noise."""
    if spec is None or protected is None:
        return None
    known = {"epsilon": protected.epsilon, "releases": protected.releases}
    return {**known, **dataclasses.asdict(spec)}


def _summary(metrics: dict[str, Any], folder: ClientFolder) -> str:
    moved = metrics["bytes"]
    found = metrics["metric"]
    metric = f"{found['name']} {found['value']:.4f}, " if found else ""
    if (kept := metrics["privacy"]) is not None:
        metric += f"epsilon {kept['epsilon']:.2f} at delta {kept['delta']:g}, "
    return (
        f"{metric}{metrics['rounds']} of {metrics['of_rounds']} rounds, "
        f"{moved['up'] / 1e6:.2f} MB up, {moved['down'] / 1e6:.2f} MB down; {folder.path}"
    )
