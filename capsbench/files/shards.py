"""Shards: which samples of a spec each of N files holds, and which shards some files are."""

from collections.abc import Iterator, Sequence

from capsbench.errors import ParameterError

LONGEST_SEARCH = 100_000  # numbers of shards that are tried


def shard_range(index: int, shards: int, count: int) -> range | None:
    """Which of ``count`` samples shard ``index`` of ``shards`` holds; None if it is the only one, and holds all.

    Raises:
        ParameterError: There is no such shard, or more shards than samples.
    """
    if not 0 <= index < shards:
        raise ParameterError(
            f"Shard {index}/{shards} was asked for; shards of {shards} are 0/{shards} to {shards - 1}/{shards}."
        )
    if shards > count:
        raise ParameterError(f"{shards:,} shards were asked for, of {count:,} samples; ask for {count:,} at most.")
    return None if shards == 1 else range(index * count // shards, (index + 1) * count // shards)


def shard_counts(shards: Sequence[range], count: int) -> Iterator[int]:
    """Into how many shards ``count`` samples may have been cut, for all of these to be among them; the fewest first.

    Of tiny shards of a huge data set there are too many answers, and none is given.
    """
    least = max((count // (len(shard) + 1) for shard in shards), default=2)
    most = min((count // max(len(shard) - 1, 1) for shard in shards), default=0)
    if most - least > LONGEST_SEARCH:
        return
    for number in range(max(least, 2), min(most, count) + 1):
        if all(shard_index(shard, number, count) is not None for shard in shards):
            yield number


def shard_index(shard: range, shards: int, count: int) -> int | None:
    """Which of so many shards holds just these of ``count`` samples; None if none does."""
    index = -(-shard.start * shards // count)
    return index if index < shards and shard_range(index, shards, count) == shard else None


def shard_name(shard: range, count: int) -> str | None:
    """``"3/7"``, the shard of ``count`` samples that holds these; None if none does, or several might."""
    found = [number for number, _ in zip(shard_counts([shard], count), range(2), strict=False)]
    return f"{shard_index(shard, found[0], count)}/{found[0]}" if len(found) == 1 else None
