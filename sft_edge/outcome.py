"""What metrics.json says of a run. The keys are a promise; more may follow, none may go."""

from __future__ import annotations

import platform
import resource
import sys
from datetime import UTC, datetime
from typing import Any

import torch
import transformers

from sft_common import __version__
from sft_edge.client import GrpcSession
from sft_edge.job import Job
from sft_edge.recorder import Recorder
from sft_edge.trainer import Evaluation

ENCODING = "float32"


def outcome(
    job: Job, session: GrpcSession, recorder: Recorder, evaluation: Evaluation, total: float
) -> dict[str, Any]:
    """Return the contents of metrics.json after the split training, `unsplit` still empty.

    Args:
        job: what was asked.
        session: the counters of what moved.
        recorder: the counters of what was trained.
        evaluation: the last one.
        total: seconds from the first batch to the last evaluation.
    """
    split = job.spec.split
    return {
        "task": job.task.name,
        "model": job.source.name,
        "cut": split.cut,
        "split_layer": split.split_layer,
        "rank": None if split.cut == "none" else split.rank,
        "encoding": ENCODING,
        "steps": recorder.steps,
        "epochs": job.plan.epochs,
        "examples": len(job.data.train),
        "evaluated_examples": sum(len(part.data) for part in job.data.validation.values()),
        "metric": {"name": evaluation.metric, "value": evaluation.value},
        "metrics": evaluation.metrics,
        "labels": list(job.task.labels),
        "unsplit": None,
        "bytes": _bytes(job, session, recorder),
        "seconds": _seconds(session, total),
        "peak_rss_bytes": {"edge": peak_rss_bytes()},
        "validation_loss": evaluation.loss,
        "session_id": session.session_id,
        "cloud_device": session.device,
        "cloud_saved": False,
        "seed": job.spec.seed,
        "batch_size": job.plan.batch_size,
        "learning_rate": job.plan.learning_rate,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "sft": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def _bytes(job: Job, session: GrpcSession, recorder: Recorder) -> dict[str, float]:
    traffic = session.traffic
    plain_up, plain_down = recorder.split_learning_bytes(job.shape.hidden)
    moved = traffic.bytes_up + traffic.bytes_down
    return {
        "up": traffic.bytes_up,
        "down": traffic.bytes_down,
        "split_learning_up": plain_up,
        "split_learning_down": plain_down,
        "reduction": round((plain_up + plain_down) / moved, 3),
    }


def _seconds(session: GrpcSession, total: float) -> dict[str, float]:
    waited, cloud = session.traffic.wait_seconds, session.traffic.cloud_seconds
    return {
        "total": round(total, 3),
        "edge": round(total - waited, 3),
        "wire": round(waited - cloud, 3),
        "cloud": round(cloud, 3),
    }


def peak_rss_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
