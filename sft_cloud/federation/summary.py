"""What the owner is told of federations (protos: operations)."""

from __future__ import annotations

from sft_cloud.federation.registry import Federations
from sft_cloud.federation.standing import Standing, standing_of
from sft_common.pb.sft.v1 import operations_pb2 as pb


def federation_summaries(federations: Federations) -> list[pb.FederationSummary]:
    """Return what there is to say of all federations, in the order of their names."""
    found = [summary_of(standing_of(federation)) for federation in federations]
    return sorted(found, key=lambda summary: summary.name)


def summary_of(standing: Standing) -> pb.FederationSummary:
    """Return the message of how a federation stands."""
    plan, under_way, found = standing.plan, standing.under_way, standing.measured
    return pb.FederationSummary(
        name=plan.name,
        method=plan.method,
        model=plan.model.name,
        cuts=plan.cut_words(),
        state=f"FEDERATION_STATE_{standing.phase.upper()}",
        failure=standing.failure,
        rounds_done=standing.done,
        rounds_planned=plan.rounds,
        clients_present=standing.present,
        clients_known=standing.known,
        clients_needed=plan.clients.minimum,
        under_way=pb.RoundUnderWay(
            round=under_way.round,
            try_number=under_way.number,
            drawn=under_way.drawn,
            arrived=under_way.arrived,
            lost=under_way.lost,
            seconds=under_way.seconds,
        )
        if under_way
        else None,
        measured=pb.AverageMeasured(**found._asdict()) if found else None,
        received_bytes=standing.received,
        sent_bytes=standing.sent,
    )
