"""What a data file holds, put into words: the output of `generate` and `info`."""

from typing import Any

from capsbench.digits import name_of
from capsbench.durability import human_bytes
from capsbench.errors import DataError
from capsbench.generation import Generated
from capsbench.inspection import classes, measure
from capsbench.storage import DataFile


def file_facts(file: DataFile) -> dict[str, Any]:
    """Spec, counts, digest and measures, as plain JSON types."""
    facts = {
        "file": str(file.path),
        "spec": file.spec.to_dict(),
        "digits": name_of(file.spec.digits) or "unknown",
        "samples": len(file),
        "bytes": file.path.stat().st_size,
        "digest": file.digest,
        **classes(file),
    }
    try:
        facts["measures"] = [vars(one) for one in measure(file)]
    except DataError as error:
        facts["measures"] = []
        facts["not measured"] = str(error)
    return facts


def facts_text(facts: dict[str, Any]) -> str:
    """The same in some ten lines."""
    spec = facts["spec"]
    parameters = ", ".join(f"{key} {value}" for key, value in spec["parameters"].items())
    lines = [
        f"{facts['file']}: {spec['generator']} (version {spec['version']}), {spec['split']}, seed {spec['seed']}",
        f"  samples     {facts['samples']:,}, {human_bytes(facts['bytes'])}",
        f"  parameters  {parameters}",
        f"  digits      {facts['digits']} ({spec['digits'][:12]})",
        f"  classes     {' '.join(map(str, facts['classes']))} (0 to 9)",
    ]
    if "kinds of pairs" in facts:
        lines.append(f"  pairs       {facts['kinds of pairs']} kinds, {facts['pairs of one class']} of one class")
    lines += [_measure_line(one) for one in facts["measures"]]
    if "not measured" in facts:
        lines.append(f"  measures    not measured: {facts['not measured']}")
    return "\n".join([*lines, f"  digest      {facts['digest']}"])


def _measure_line(one: dict[str, Any]) -> str:
    low, middle, high = one["percentiles"]
    return f"  {one['name']:<22} mean {one['mean']:.2f}, 5 % {low:.2f}, median {middle:.2f}, 95 % {high:.2f}"


def generated_text(generated: Generated, facts: dict[str, Any]) -> str:
    """The same, and what it took to make the file."""
    if not generated.drawn:
        ending = "was whole already, verified and left"
    else:
        rate = f"{generated.drawn / generated.seconds:,.0f} images/s, synced"
        kept = f", {generated.kept:,} were there" if generated.kept else ""
        ending = f"{generated.drawn:,} drawn{kept}, {generated.seconds:.2f} s, {rate}"
    return f"{facts_text(facts)}\n  {ending}"
