"""Shards: the samples of a spec that each of N files holds, and the shard that a file is."""

from collections.abc import Iterator, Sequence

from capsbench.errors import ParameterError

LONGEST_SEARCH = 100_000  # numbers of shards that are tried


def shard_range(index: int, shards: int, count: int) -> range | None:
    """The samples, of ``count``, that shard ``index`` of ``shards`` holds; None if it is the only one.

    Raises:
        ParameterError: There is no such shard, or more shards than samples.
    """
    if not 0 <= index < shards:
        raise ParameterError(f"A shard of {shards} must be 0/{shards} to {shards - 1}/{shards}, got {index}/{shards}.")
    if shards > count:
        raise ParameterError(f"There may be as many shards as samples, {count:,}, got {shards:,}.")
    return None if shards == 1 else range(index * count // shards, (index + 1) * count // shards)


def shard_counts(shards: Sequence[range], count: int) -> Iterator[int]:
    """The numbers of shards of ``count`` samples with all of these shards among them, the smallest first.

    For tiny shards of a huge data set there would be too many; it then yields nothing.
    """
    least = max((count // (len(shard) + 1) for shard in shards), default=2)
    most = min((count // max(len(shard) - 1, 1) for shard in shards), default=0)
    if most - least > LONGEST_SEARCH:
        return
    for number in range(max(least, 2), min(most, count) + 1):
        if all(shard_index(shard, number, count) is not None for shard in shards):
            yield number


def shard_index(shard: range, shards: int, count: int) -> int | None:
    """The index of the shard, of so many, that holds exactly these of ``count`` samples; None if there is none."""
    index = -(-shard.start * shards // count)
    return index if index < shards and shard_range(index, shards, count) == shard else None


def shard_name(shard: range, count: int) -> str | None:
    """The name, such as ``"3/7"``, of the shard with these of ``count`` samples; None if there is none or several."""
    found = [number for number, _ in zip(shard_counts([shard], count), range(2), strict=False)]
    return f"{shard_index(shard, found[0], count)}/{found[0]}" if len(found) == 1 else None
