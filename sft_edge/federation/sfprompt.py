"""SFPrompt (Cao et al. 2024): soft prompts and the tail train here, past the body and through it.

Each round has a phase of many cheap epochs that leave the body out, picks the hardest examples, and
takes those through the body on the cloud once.

Legend: B batch, C classes, N hidden width, T tokens and prompts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sft_common.config import PartsSpec
from sft_common.errors import TrainingError
from sft_common.federation.plan import uncoded
from sft_common.federation.said import Attempt, Finding
from sft_common.federation.tensors import Shapes
from sft_common.model.calibration import TOKENS_PER_CHANNEL
from sft_common.model.parting import Parting, blank_code
from sft_common.model.parts import Parts
from sft_common.model.prompts import mask_with_prompts
from sft_common.plan import epoch_order
from sft_edge.client import GrpcSession
from sft_edge.federation.body import RemoteBody
from sft_edge.federation.calls import Member
from sft_edge.federation.done import Done
from sft_edge.federation.material import Check, Material
from sft_edge.federation.pruning import el2n, hardest
from sft_edge.federation.sessions import NOBODY, Person, open_body
from sft_edge.tasks.batches import Batch
from sft_edge.traffic import Traffic

Loss = Callable[[Batch], Tensor]


class SFPrompt:
    """A client of SFPrompt.

    Args:
        material: data and model.
        member: who the client is.
        traffic: counts the bytes of sessions too.
        person: is told of a cloud that is lost, and may want to stop.
    """

    def __init__(
        self, material: Material, member: Member, traffic: Traffic, person: Person = NOBODY
    ) -> None:
        self._material, self._member, self._traffic = material, member, traffic
        self._person = person
        self._parts: Parts | None = None
        self._sessions = list[GrpcSession]()
        self._body: RemoteBody | None = None
        self._spec = material.plan.parts

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of prompts, tail and the client's share of the cuts."""
        parting = Parting(self._material.pretrained, self._spec)
        return {**parting.trained_shapes(), **parting.given_shapes()}

    def calibration_shapes(self, duty: str) -> Shapes:
        """Names and shapes of the client's share of the first cut, once it is needed."""
        if duty == "calibrate-cut":
            return {}
        return Parting(self._material.pretrained, self._spec).head_shapes()

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin from an average."""
        if self._parts is None:
            self._parts = self._made(self._spec, tensors)
        trained = self._parts.trained().keys()
        self._parts.load({name: tensors[name] for name in trained})

    def begin(self, at: Attempt) -> None:
        """Open a session with the body."""
        assert self._parts is not None
        self._parts.body = self._body = self._reached(calibrates=False)

    def evaluate(self, check: Check) -> Finding:
        """Look what the average is worth on the validation parts."""
        return self._material.evaluate(self._predictions, check)

    def _predictions(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with its logits."""
        assert self._parts is not None
        self._parts.eval()
        for batch in batches:
            with torch.no_grad():
                yield batch, self._parts(self._inputs(batch)).cpu()

    def train(self, at: Attempt, check: Check) -> Done:
        """Take all three phases of a round but the average; see `Method`."""
        material, training = self._material, self._material.plan.training
        seed = material.plan.seed_of(at.round, at.number, self._member.client)
        torch.manual_seed(seed)
        assert self._parts is not None
        parameters = self._parts.trained().values()
        optimizer = torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)
        local = [
            self._epoch(optimizer, self._local_loss, batches, check)
            for batches in material.epochs(seed)
        ]
        kept = self._kept(check)
        through = self._epoch(optimizer, self._split_loss, self._through(kept, seed), check)
        return Done(
            tensors=self._parts.state(),
            weight=len(material.data.train),
            facts={"local_losses": local, "losses": [through], "kept": len(kept)},
        )

    def calibrate(self, duty: str, tensors: Mapping[str, Tensor], check: Check) -> Done:
        """Find mean and second moments of what a cut is to code, over the training part."""
        rows = [torch.empty(0, self._material.shape.hidden)]
        rows += self._rows(duty == "calibrate-tail", tensors, check)
        return Done.calibration(torch.cat(rows))

    def end(self) -> None:
        """End the session, if there is one: others may wait for its room."""
        if self._body is not None:
            body, self._body = self._body, None
            body.close()
            self._count()

    def _epoch(
        self,
        optimizer: torch.optim.Optimizer,
        loss_of: Loss,
        batches: Iterable[Batch],
        check: Check,
    ) -> float:
        """Take a step for each batch; returns the mean loss.

        Raises:
            TrainingError: a loss is no number.
        """
        assert self._parts is not None
        self._parts.train()
        losses = []
        for batch in batches:
            check()
            optimizer.zero_grad()
            loss = loss_of(batch)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"the loss is {losses[-1]}")
            loss.backward()
            optimizer.step()
        return sum(losses) / len(losses)

    def _local_loss(self, batch: Batch) -> Tensor:
        """Return the loss of head and tail alone (SFPrompt, phase 1)."""
        assert self._parts is not None
        return self._loss(self._parts.local(self._inputs(batch)), batch)

    def _split_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the whole model, whose body is elsewhere (SFPrompt, phase 2)."""
        assert self._parts is not None
        return self._loss(self._parts(self._inputs(batch)), batch)

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        labels = torch.tensor(batch.labels, device=logits.device)
        return self._material.head.loss(logits, labels, batch.mask.to(logits.device))

    def _kept(self, check: Check) -> list[int]:
        """Return the numbers of the hardest examples, ascending (SFPrompt, pruning)."""
        assert self._parts is not None
        self._parts.eval()
        training, scores = self._material.plan.training, []
        for batch in self._material.data.train.in_order(training.batch_size):
            check()
            with torch.no_grad():
                logits_BC = self._parts.local(self._inputs(batch), prompted=False)
            scores.append(el2n(logits_BC.cpu(), torch.tensor(batch.labels)))
        return hardest(torch.cat(scores), training.keep)

    def _through(self, kept: Sequence[int], seed: int) -> Iterator[Batch]:
        """Yield the batches of phase 2."""
        training, train = self._material.plan.training, self._material.data.train
        order = [kept[at] for at in epoch_order(len(kept), seed=seed, epoch=training.epochs)]
        for start in range(0, len(order), training.batch_size):
            yield train.batch(order[start : start + training.batch_size])

    @torch.no_grad()
    def _rows(self, tail: bool, given: Mapping[str, Tensor], check: Check) -> Iterator[Tensor]:
        """Yield what a cut is to code, (T, N), of enough tokens or all there are."""
        material, plan = self._material, self._material.plan
        spec = self._spec
        if tail:
            spec = dataclasses.replace(spec, second=uncoded(spec.second))
        parts, body = self._made(spec, given), self._reached(calibrates=True) if tail else None
        wanted, seen = TOKENS_PER_CHANNEL * material.shape.hidden, 0
        try:
            for batch in material.calibration(check):
                inputs, mask_BM = self._inputs(batch), batch.mask
                mask_BM = mask_with_prompts(mask_BM, plan.training.prompts)
                if body is None:
                    rows = parts.head.stream(inputs)[mask_BM]
                else:
                    rows = body(parts.head(inputs), mask_BM)
                    rows = rows if spec.first_row else rows[mask_BM]
                seen += len(rows)
                yield rows.cpu()
                if seen >= wanted:
                    break
        finally:
            if body is not None:
                body.close()
                self._count()

    def _made(self, spec: PartsSpec, given: Mapping[str, Tensor]) -> Parts:
        """Return the parts that this client holds, with what it was given of the cuts."""
        plan, pretrained = self._material.plan, self._material.pretrained
        code = {**blank_code(pretrained, spec), **{n: v for n, v in given.items() if ".cut." in n}}
        return Parting(pretrained, spec, code).parts(seed=plan.seed).to(self._material.device)

    def _reached(self, *, calibrates: bool) -> RemoteBody:
        def reach() -> GrpcSession:
            self._sessions.append(
                open_body(self._material, self._member, calibrates=calibrates, person=self._person)
            )
            return self._sessions[-1]

        return RemoteBody(reach, first_row=self._spec.first_row)

    def _count(self) -> None:
        """Count what the sessions have moved, which have ended."""
        for session in self._sessions:
            self._traffic.bytes_up += session.traffic.bytes_up
            self._traffic.bytes_down += session.traffic.bytes_down
        self._sessions.clear()

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        return {name: tensor.to(self._material.device) for name, tensor in batch.inputs.items()}
