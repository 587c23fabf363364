"""Wait in order for GPUs that others use, and say why: what every command that leases one does."""

from collections.abc import Iterator

from mlstack.launch.leases import Blocked, Claim
from mlstack.records.base import Record


class Waiting(Record, frozen=True, kw_only=True, tag="gpus.waiting"):
    """GPUs are in use; whoever came first gets them first."""

    place: int  # in the queue, from 1
    free: int
    count: int  # of GPUs that would do
    users: list[str]
    ahead: list[str]

    def words(self) -> str:
        """Say why it takes long, a line for each who is in the way."""
        lines = [
            f"waiting for GPUs: {self.free} of {self.count} are free, "
            f"number {self.place} in the queue (Ctrl-C leaves it)",
            *(f"  used by {user}" for user in self.users),
            *(f"  first comes {waiter}" for waiter in self.ahead),
        ]
        return "\n".join(lines)


def taken(claimed: Claim, *, waits: bool, otherwise: str = "") -> Iterator[Waiting]:
    """Take the GPUs of a claim; say why that takes long, and again when the reason is another.

    Args:
        claimed: what is asked for; `claimed.taken` holds the GPUs when this is over.
        waits: whether to wait for them.
        otherwise: what to type to do without them.

    Raises:
        BusyError: others use them, and it is not to be waited for.
    """
    told: Blocked | None = None
    for blocked in claimed.wait() if waits else ():
        if blocked != told:
            told = blocked
            yield Waiting(
                place=len(blocked.ahead) + 1,
                free=blocked.free,
                count=blocked.count,
                users=list(blocked.users),
                ahead=list(blocked.ahead),
            )
    claimed.take(otherwise)
