"""The contents of a data file in words: the output of `generate` and `info`."""

from typing import Any

from capsbench.data.digits import origin_of
from capsbench.errors import DataError
from capsbench.files.datafile import DataFile
from capsbench.files.inspection import classes, measure
from capsbench.files.published import recognise
from capsbench.files.shards import shard_name
from capsbench.files.writing import Written
from capsbench.importing.agreement import agreement_text, measure_agreement
from capsbench.spec import UNKNOWN, told_digits
from capsbench.system.disk import human_bytes


def file_facts(file: DataFile, *, measured: bool = True) -> dict[str, Any]:
    """Spec, counts and digest, as plain JSON types; its measures, or a comparison of an imported file with ours."""
    facts = {
        "file": str(file.path),
        "spec": file.spec.to_dict(),
        "digits": origin_of(file.spec) or UNKNOWN,
        **({} if file.shard is None else {"shard": [file.shard.start, file.shard.stop]}),
        "samples": len(file),
        "bytes": file.path.stat().st_size,
        "packed": file.packed,
        "digest": file.digest,
        "known as": recognise(file.digest),
        **classes(file),
    }
    facts["measures"] = []
    try:
        if measured and file.spec.imported:
            facts["calibration"] = measure_agreement(file).to_dict()
        elif measured:
            facts["measures"] = [vars(one) for one in measure(file)]
    except DataError as error:
        facts["not measured"] = str(error)
    return facts


def facts_text(facts: dict[str, Any]) -> str:
    """The facts in about ten lines."""
    spec = facts["spec"]
    parameters = ", ".join(f"{key} {value}" for key, value in spec["parameters"].items())
    lines = [
        f"{facts['file']}: {spec['generator']} (version {spec['version']}), {spec['split']}, seed {spec['seed']}",
        f"  samples     {facts['samples']:,}{_shard_text(facts)}, {human_bytes(facts['bytes'])}{_packed_text(facts)}",
        f"  parameters  {parameters}",
        f"  digits      {_source(facts)}" + (f" ({spec['digits'][:12]})" if spec["digits"] != UNKNOWN else ""),
        f"  classes     {' '.join(map(str, facts['classes']))} (0 to 9)",
    ]
    if "kinds of pairs" in facts:
        lines.append(f"  pairs       {facts['kinds of pairs']} kinds, {facts['pairs of one class']} of one class")
    lines += [_measure_line(one) for one in facts["measures"]]
    lines += agreement_text(facts["calibration"]) if "calibration" in facts else []
    if "not measured" in facts:
        lines.append(f"  measures    not measured: {facts['not measured'].splitlines()[0]}")
    lines += [f"  known as    {facts['known as']}"] if facts["known as"] else []
    return "\n".join([*lines, f"  digest      {facts['digest']}"])


def _source(facts: dict[str, Any]) -> str:
    """What the digits are called; MNIST's have a word."""
    return told_digits(facts["digits"]) if "digits_name" in facts["spec"] else str(facts["digits"])


def _shard_text(facts: dict[str, Any]) -> str:
    """The samples of its spec that a shard holds."""
    if "shard" not in facts:
        return ""
    start, stop = facts["shard"]
    count = facts["spec"]["count"]
    name = shard_name(range(start, stop), count)
    return f" ({start:,} to {stop - 1:,} of {count:,}{f', shard {name}' if name else ''})"


def _packed_text(facts: dict[str, Any]) -> str:
    return ", packed" if facts["packed"] else ""


def _measure_line(one: dict[str, Any]) -> str:
    low, middle, high = one["percentiles"]
    return f"  {one['name']:<22} mean {one['mean']:.2f}, 5 % {low:.2f}, median {middle:.2f}, 95 % {high:.2f}"


def generated_text(made: Written, facts: dict[str, Any], *, done: str = "drawn") -> str:
    """The facts, and the time it took to make the file; ``done`` is the verb for its samples."""
    if not made.written:
        ending = "was whole already, verified and left"
    else:
        rate = f"{made.written / made.seconds:,.0f} images/s, synced"
        kept = f", {made.reused:,} were there" if made.reused else ""
        ending = f"{made.written:,} {done}{kept}, {made.seconds:.2f} s, {rate}"
    return f"{facts_text(facts)}\n  {ending}"
