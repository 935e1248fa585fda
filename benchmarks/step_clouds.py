"""Clouds of two other systems, with a model that computes nothing, for step.py.

    python -m benchmarks.step_clouds {rpc,hivemind} --ip IP --port P --seconds S

Each says "ready" and serves until its input ends. The device is emulated as in null_cloud.py: it
sleeps S for each token of a training step, padding included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

EXPERT = "net2.0"

FORWARD = 1 / 3
"""Share of a training step that its forward pass takes; backward takes the rest."""

_seconds = 0.0


def rpc_step(activation_BMW: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Return loss and gradient of a step; called by the edge."""
    time.sleep(_seconds * activation_BMW.shape[0] * activation_BMW.shape[1])
    return 0.0, activation_BMW


def serve_rpc(options: argparse.Namespace) -> None:
    """Serve torch.distributed.rpc."""
    from torch.distributed import rpc

    global _seconds
    _seconds = options.seconds
    where = rpc.TensorPipeRpcBackendOptions(init_method=f"tcp://{options.ip}:{options.port}")
    print("ready", flush=True)  # init_rpc waits for the edge
    rpc.init_rpc("cloud", rank=0, world_size=2, rpc_backend_options=where)
    sys.stdin.read()
    os._exit(0)  # the edge has gone: a graceful shutdown would wait for it


class Sleeper(nn.Module):
    """What hivemind calls an expert: logits of two classes for each example."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self._seconds = seconds

    def forward(self, activation_BMW: Tensor) -> Tensor:
        """Return logits, (B, 2)."""
        apply: Any = _Sleep.apply
        logits: Tensor = apply(activation_BMW, self._seconds)
        return logits + self.bias


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation_BMW: Tensor, seconds: float) -> Tensor:
        ctx.save_for_backward(activation_BMW)
        ctx.seconds = seconds * activation_BMW.shape[0] * activation_BMW.shape[1]
        time.sleep(ctx.seconds * FORWARD)
        return activation_BMW[:, 0, :2].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (activation_BMW,) = ctx.saved_tensors
        time.sleep(ctx.seconds * (1 - FORWARD))
        return activation_BMW, None


def serve_hivemind(options: argparse.Namespace) -> None:
    """Serve an expert of hivemind, its tensors in 8 bits."""
    import hivemind
    from hivemind.moe.server import ModuleBackend, Server
    from hivemind.proto.runtime_pb2 import CompressionType
    from hivemind.utils.tensor_descr import BatchTensorDescriptor

    dht = hivemind.DHT(host_maddrs=[f"/ip4/{options.ip}/tcp/{options.port}"], start=True)
    module, eight = Sleeper(options.seconds), CompressionType.UNIFORM_8BIT
    schema = BatchTensorDescriptor(options.tokens, options.width, compression=eight)
    backend = ModuleBackend(
        EXPERT,
        module,
        optimizer=torch.optim.AdamW(module.parameters(), lr=0.0),
        args_schema=(schema,),
        outputs_schema=BatchTensorDescriptor(2),
        max_batch_size=4096,
    )
    server = Server(dht, {EXPERT: backend}, num_connection_handlers=1, device=torch.device("cpu"))
    server.run_in_background(await_ready=True)
    print(f"ready {dht.get_visible_maddrs()[0]}", flush=True)
    sys.stdin.read()
    server.shutdown()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("rpc", "hivemind"))
    parser.add_argument("--ip", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="of the device, for a token")
    parser.add_argument("--tokens", type=int, default=66, help="M, for hivemind")
    parser.add_argument("--width", type=int, default=8, help="W, for hivemind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"rpc": serve_rpc, "hivemind": serve_hivemind}[options.system](options)


if __name__ == "__main__":
    main()
