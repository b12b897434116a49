"""Several processes that measure one cell together, as ``torchrun`` starts them; alone, this process is the only one.

The processes do the same, step by step. The first alone decides what depends on the disk and the clock, writes and
prints; the others learn its decisions.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Made = TypeVar("Made")

PATIENCE = timedelta(days=1)  # the first may wait for another run's lock; a dead process is noticed at once


@dataclass(frozen=True)
class Ranks:
    """The processes, and which of them this is.

    Attributes:
        rank: This process, counted from 0.
        size: How many there are.
        local: This process, counted on its machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's part of so many things; the parts are of about one size, and some may be empty."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def decided(self, decide: Callable[[], Made]) -> Made:
        """What the first process decides."""
        if self.size == 1:
            return decide()
        import torch.distributed as dist

        _joined(self)
        decision: list[Any] = [decide() if self.first else None]
        dist.broadcast_object_list(decision)
        made: Made = decision[0]
        return made

    def gathered(self, own: Made) -> Sequence[Made]:
        """What each process has, in their order."""
        if self.size == 1:
            return [own]
        import torch.distributed as dist

        _joined(self)
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, own)
        return every

    def group(self, device: str) -> Any:
        """Torch's process group for tensors on a device."""
        _joined(self)
        return _groups(device)


def begun() -> float | None:
    """When ``torchrun`` was started, in seconds since 1970; it may have restarted these processes after that.

    None where this process is alone, or where the system does not say: only Linux does.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    try:
        after_name = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except OSError:
        return None
    return int(boot.split()[1]) + int(after_name[19]) / os.sysconf("SC_CLK_TCK")


@cache
def ranks() -> Ranks:
    """The processes that ``torchrun`` has started, or this one alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Ranks()
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    return Ranks(rank, size, local)


@cache
def _joined(one: Ranks) -> None:
    """Joins the others; on GPUs this process takes its own."""
    import torch
    from torch.distributed.rendezvous import rendezvous

    # After a restart the store still has what the processes wrote before it: each start has names of its own.
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    dist: Any = torch.distributed
    own = dist.PrefixStore(f"capsbench/{restart}", store)
    dist.init_process_group("gloo", store=own, rank=rank, world_size=size, timeout=PATIENCE)
    if torch.cuda.is_available():
        torch.cuda.set_device(one.local % torch.cuda.device_count())
    atexit.register(_left)


def _left() -> None:
    import torch.distributed as dist

    with suppress(Exception):  # the others may be gone
        dist.destroy_process_group()


@cache
def _groups(device: str) -> Any:
    import torch.distributed as dist

    return dist.new_group(backend="nccl", timeout=PATIENCE) if device == "cuda" else dist.group.WORLD
