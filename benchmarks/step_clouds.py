"""Clouds of two other systems, with a model that computes nothing, for step.py.

    python -m benchmarks.step_clouds {rpc,hivemind} --ip IP --port P --device S S S

Each says "ready" and serves until its input ends. The device is emulated as in null_cloud.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.null_cloud import Device

EXPERT = "net2.0"

RPC_OPTIONS: dict[str, Any] = {"_transports": ["uv"], "_channels": ["mpt_uv", "basic"]}
"""Two processes of one machine would else hand tensors over in memory, past the link."""


def rpc_step(activation_BMW: Tensor, labels: Tensor, device: Device) -> tuple[float, Tensor]:
    """Return loss and gradient of a step; called by the edge, runs on the cloud."""
    device.work(activation_BMW.shape[0] * activation_BMW.shape[1])
    device.apply()
    return 0.0, activation_BMW


def serve_rpc(options: argparse.Namespace) -> None:
    """Serve torch.distributed.rpc."""
    from torch.distributed import rpc

    where = rpc.TensorPipeRpcBackendOptions(
        init_method=f"tcp://{options.ip}:{options.port}", **RPC_OPTIONS
    )
    print("ready", flush=True)  # init_rpc waits for the edge
    rpc.init_rpc("cloud", rank=0, world_size=2, rpc_backend_options=where)
    sys.stdin.read()
    os._exit(0)  # the edge has gone: a graceful shutdown would wait for it


class Sleeper(nn.Module):
    """What hivemind calls an expert: logits of two classes for each example."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self._device = device

    def forward(self, activation_BMW: Tensor) -> Tensor:
        """Return logits, (B, 2)."""
        apply: Any = _Sleep.apply
        logits: Tensor = apply(activation_BMW, self._device)
        return logits + self.bias


class _Sleep(torch.autograd.Function):
    """A third of a step's time forward, the rest and the update backward."""

    @staticmethod
    def forward(ctx: Any, activation_BMW: Tensor, device: Device) -> Tensor:
        ctx.save_for_backward(activation_BMW)
        ctx.device = device
        Device(device.step / 3, device.token / 3).work(activation_BMW[..., 0].numel())
        return activation_BMW[:, 0, :2].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (activation_BMW,) = ctx.saved_tensors
        device = ctx.device
        Device(device.step * 2 / 3, device.token * 2 / 3).work(activation_BMW[..., 0].numel())
        device.apply()
        return activation_BMW, None


def serve_hivemind(options: argparse.Namespace) -> None:
    """Serve an expert of hivemind, its tensors in 8 bits."""
    import hivemind
    from hivemind.moe.server import ModuleBackend, Server
    from hivemind.proto.runtime_pb2 import CompressionType
    from hivemind.utils.tensor_descr import BatchTensorDescriptor

    dht = hivemind.DHT(host_maddrs=[f"/ip4/{options.ip}/tcp/{options.port}"], start=True)
    module, eight = Sleeper(Device(*options.device)), CompressionType.UNIFORM_8BIT
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
    parser.add_argument("--device", type=float, nargs=3, default=Device(), metavar="SECONDS")
    parser.add_argument("--tokens", type=int, default=66, help="M, for hivemind")
    parser.add_argument("--width", type=int, default=8, help="W, for hivemind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"rpc": serve_rpc, "hivemind": serve_hivemind}[options.system](options)


if __name__ == "__main__":
    main()
