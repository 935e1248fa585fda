"""SplitFed (Thapa et al. 2022): net1 on the client, net2 on the cloud, both averaged each round."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from torch import Tensor

from sft_common.config import OptimizerSpec
from sft_common.errors import SftError
from sft_common.federation.said import Attempt, Finding
from sft_common.federation.tensors import Shapes, shapes_of, trained_of
from sft_common.model.calibration import rows_of
from sft_edge.client import GrpcSession
from sft_edge.federation.calls import Member
from sft_edge.federation.done import Done
from sft_edge.federation.fedavg import train_epochs
from sft_edge.federation.material import Check, Material, copy_of_trained, load_into
from sft_edge.federation.sessions import NOBODY, Person, open_part
from sft_edge.learners import SplitLearner
from sft_edge.pacing import Pacing
from sft_edge.remote import Rewound
from sft_edge.traffic import Traffic


class SplitFed:
    """Trains net1 here and a net2 of this client alone on the cloud, in a session for each round.

    Args:
        material: data and model.
        member: who the client is.
        traffic: counts the bytes of sessions too.
        person: is told of a cloud that is lost, and may want to stop.
    """

    def __init__(
        self, material: Material, member: Member, traffic: Traffic, person: Person = NOBODY
    ) -> None:
        plan = material.plan
        assert plan.cut is not None
        self._material, self._member, self._traffic = material, member, traffic
        self._person = person
        self._net1 = material.pretrained.net1(plan.cut.split)
        material.pretrained.fill_net1(self._net1)
        self._net1.to(material.device)
        self._session: GrpcSession | None = None

    @property
    def shapes(self) -> Shapes:
        """Names and shapes of net1's parameters that train."""
        return shapes_of(trained_of(self._net1.skeleton))

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin from an average."""
        load_into(self._net1.skeleton, dict(tensors))

    def begin(self, at: Attempt) -> None:
        """Open the session of a try at a round."""
        self._session = open_part(self._material, self._member, at, self._person)

    def evaluate(self, check: Check) -> Finding:
        """Look what the average is worth on the validation parts."""
        with closing(self._learner()) as learner:
            return self._material.evaluate(learner.predictions, check)

    def train(self, at: Attempt, check: Check) -> Done:
        """Train for the local epochs; see `Method`."""
        with closing(self._learner()) as learner:
            losses = train_epochs(self._material, learner, at, check)
            learner.settle()
        assert self._session is not None
        self._session.norms()  # answered once the last step is applied there
        return Done(
            tensors=copy_of_trained(self._net1.skeleton),
            weight=len(self._material.data.train),
            session_id=self._session.session_id,
            facts={"losses": losses},
        )

    def calibration_shapes(self, duty: str) -> Shapes:
        """Nothing is needed beside the pre-trained net1."""
        return {}

    def calibrate(self, duty: str, tensors: Mapping[str, Tensor], check: Check) -> Done:
        """Find mean and second moments of the stream at the cut, over the training part."""
        material = self._material
        batches = ((batch.inputs, batch.mask) for batch in material.calibration(check))
        return Done.calibration(
            rows_of(self._net1, batches, material.shape.hidden, material.device)
        )

    def end(self) -> None:
        """Leave the session: its net2 is averaged, or counts for nothing."""
        if self._session is not None:
            session, self._session = self._session, None
            try:
                session.close(discard=True)
            except (SftError, Rewound):  # there is nothing left of it
                session.abandon()
            self._traffic.bytes_up += session.traffic.bytes_up
            self._traffic.bytes_down += session.traffic.bytes_down

    def _learner(self) -> SplitLearner:
        assert self._session is not None
        material = self._material
        return SplitLearner(
            self._net1,
            self._session,
            material.head,
            OptimizerSpec(),
            material.device,
            pacing=Pacing(1),
            keeps_labels=material.options.labels == "edge",
        )
