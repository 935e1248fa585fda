"""What metrics.json says of a run. The keys are a promise; more may follow, none may go."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

from sft_common import __version__
from sft_edge.job import Job
from sft_edge.recorder import Recorder
from sft_edge.traffic import Traffic
from sft_edge.trainer import Evaluation


def asked(job: Job) -> dict[str, Any]:
    """Return the part of metrics.json that is known before the first step."""
    split = job.spec.split
    return {
        "task": job.task.name,
        "model": job.source.name,
        "cut": split.cut,
        "split_layer": split.split_layer,
        "rank": None if split.cut == "none" else split.rank,
        "decoder_layers": split.decoder_layers,
        "edge": job.options.edge,
        "labels_on": job.options.labels,
        "encoding": job.spec.encoding,
        "gradient_encoding": job.spec.gradient_encoding,
        "epochs": job.plan.epochs,
        "examples": len(job.data.train),
        "evaluated_examples": sum(len(part.data) for part in job.data.validation.values()),
        "labels": list(job.task.labels),
        "seed": job.spec.seed,
        "batch_size": job.plan.batch_size,
        "learning_rate": job.plan.learning_rate,
        "group_by_length": job.plan.group_by_length,
        "hidden": job.shape.hidden,
        "forecast": job.options.forecast,
    }


def outcome(
    known: Mapping[str, Any],
    recorder: Recorder,
    evaluation: Evaluation,
    traffic: Traffic,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the contents of metrics.json after the split training, `unsplit` still empty.

    Args:
        known: what `asked` gave, `session_id`, `cloud_device` and `machine`.
        recorder: the counters of what was trained.
        evaluation: the last one.
        traffic: the counters of what moved.
        seconds: in total, on the edge, on the wire and on the cloud.
    """
    return {
        **known,
        "steps": recorder.steps,
        "metric": {"name": evaluation.metric, "value": evaluation.value},
        "metrics": evaluation.metrics,
        "unsplit": None,
        "bytes": _bytes(known["hidden"], traffic, recorder),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_rss_bytes": {"edge": peak_rss_bytes()},
        "validation_loss": evaluation.loss,
        "cloud_saved": False,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "sft": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def _bytes(hidden: int, traffic: Traffic, recorder: Recorder) -> dict[str, float]:
    plain_up, plain_down = recorder.split_learning_bytes(hidden)
    moved = traffic.bytes_up + traffic.bytes_down
    return {
        "up": traffic.bytes_up,
        "down": traffic.bytes_down,
        "split_learning_up": plain_up,
        "split_learning_down": plain_down,
        "reduction": round((plain_up + plain_down) / moved, 3),
    }


def seconds_of(traffic: Traffic, total: float) -> dict[str, float]:
    """Return where the seconds of a live training went."""
    wire, cloud = traffic.wire_seconds, traffic.cloud_seconds
    return {"total": total, "edge": total - wire - cloud, "wire": wire, "cloud": cloud}


def breakdown_of(traffic: Traffic, total: float) -> dict[str, float]:
    """Return what a live training did, in seconds; docs/architecture.md says what each means.

    The first four add up to the total; the others went on meanwhile.
    """
    idle = traffic.wire_seconds + traffic.cloud_seconds
    busy = total - idle - traffic.encode_seconds - traffic.decode_seconds
    seconds = {
        "edge": busy,
        "encode": traffic.encode_seconds,
        "decode": traffic.decode_seconds,
        "idle": idle,
        "up": traffic.way_seconds / 2,
        "down": traffic.way_seconds / 2,
        "queue": traffic.queue_seconds,
        "cloud": traffic.compute_seconds,
        "cloud_codec": traffic.cloud_codec_seconds,
    }
    return {name: round(value, 3) for name, value in seconds.items()}


def peak_rss_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
