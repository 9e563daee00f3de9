"""Ray Serve's consistent-hash router, made to honour tickets."""

from __future__ import annotations

from ray.serve._private.request_router.common import PendingRequest
from ray.serve._private.request_router.replica_wrapper import RunningReplica
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

_SEPARATOR = "\x1f"


def session_of(owner: str, user: str) -> str:
    """The session identifier of a request: who is to answer it, if that is known, and whose it is."""
    return f"{owner}{_SEPARATOR}{user}"


class TicketRouter(ConsistentHashRouter):  # type: ignore[misc]
    """Sends a request to the replica that its ticket names; where that one is gone, or none is named, along the ring.

    Ray's own router keeps a user on one replica as long as the replicas stay the same. A ticket holds beyond that: the
    ranking request follows its signal, though the ring has changed meanwhile.
    """

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Candidates in the order in which they are asked; one alone where the ticket's owner is up."""
        owner = _parts(pending_request)[0] if pending_request is not None else ""
        named = [replica for replica in candidate_replicas if owner and replica.replica_id.unique_id == owner]
        if named:
            return [named]
        ranked: list[list[RunningReplica]] = await super().choose_replicas(candidate_replicas, pending_request)
        return ranked

    def _routing_key(self, pending_request: PendingRequest | None) -> str | None:
        if pending_request is not None and _parts(pending_request)[1]:
            return _parts(pending_request)[1]
        key: str | None = super()._routing_key(pending_request)
        return key


def _parts(request: PendingRequest) -> tuple[str, str]:
    owner, _, user = (request.metadata.session_id or "").rpartition(_SEPARATOR)
    return owner, user
