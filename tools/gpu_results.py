"""Reads what tools/gpu_figures.sh leaves: ``python tools/gpu_results.py keep FOLDER MACHINE`` puts it into results/.

Figures go into results/gpu/MACHINE.json, stage by stage, each with where and of what it was measured; a stage that was
measured again takes the place of the older one. Results of cells go into results/SUITE/MACHINE/. `make docs` makes the
tables of the documents from them. The other commands serve the script: ``table`` prints figures, ``fit`` says how many
epochs of how many seeds of the suite affine fit into so many seconds, ``sound`` fails where routing was found wrong.
"""

import argparse
import json
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

RESULTS = Path(__file__).resolve().parent.parent / "results"
FACTS = "machine"  # the stage that says where all after it was measured
ALLOWED = 2.0  # times what `worst_error` allows, on a GPU, as the tests have it
FAR = {"float32": 1e-5, "bfloat16": 1e-2}  # relative to float64; both are some fifty and four times what is seen

NETWORKS = ("capsnet", "cnn-pool")  # of affine
SCHEDULE = 20  # epochs of affine's preset paper
FEWEST = 10  # epochs; before there are fewer, a seed is left out
EPOCH, LOOK = 50_000, 40_000  # images that a network of affine is trained on in an epoch, and looked at with
TESTS = 890_000  # images of its tests: three checkpoints, each factor alone, translation
APART = 40.0  # seconds of start, data, capture and statistics, which seeds share where they run at once
SLACK = 1.15  # processes that share a GPU also take turns

Row = dict[str, Any]


@dataclass
class Stage:
    """What a stage measured: its rows, and the facts of the machine, the versions and the code."""

    facts: Row
    rows: list[Row] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Where and of what, in a line."""
        names = {"driver": "driver", "torch": "torch", "triton": "Triton", "cudnn": "cuDNN", "commit": "commit"}
        told = [f"{title} {self.facts[key]}" for key, title in names.items() if self.facts.get(key)]
        return ", ".join([self.facts.get("device", "an unknown device"), *told, self.facts.get("date", "")])


def read_figures(lines: Iterable[str]) -> dict[str, Stage]:
    """The stages in the lines of a figures.jsonl; of a stage that is there twice the later."""
    stages: dict[str, Stage] = {}
    facts: Row = {}
    for line in lines:
        one = json.loads(line)
        row = {**one["what"], **one["found"]}
        if one["stage"] == FACTS:
            facts = row
        elif one["stage"] in stages and stages[one["stage"]].facts is facts:
            stages[one["stage"]].rows.append(row)
        else:
            stages[one["stage"]] = Stage(facts, [row])
    return stages


def load_kept(path: Path) -> dict[str, Stage]:
    """The stages of a file under results/gpu; none where there is no such file."""
    return {name: Stage(**stage) for name, stage in json.loads(path.read_text()).items()} if path.exists() else {}


def keep_figures(stages: dict[str, Stage], path: Path) -> None:
    """Writes stages into a file under results/gpu, a row a line; what it has of other stages stays."""
    parts = []
    for name, stage in sorted((load_kept(path) | stages).items()):
        rows = ",\n".join(f"      {json.dumps(row)}" for row in stage.rows)
        parts.append(f'  "{name}": {{\n    "facts": {json.dumps(stage.facts)},\n    "rows": [\n{rows}\n    ]\n  }}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def keep_cells(archive: Path, results: Path, machine: str) -> Iterator[Path]:
    """Writes the results of cells in a results.tgz where they belong; other members are left.

    Raises:
        DataFileError: A result is not one of ours.
    """
    # Imported here, because the script on the GPU has no time to wait for it.
    from capsbench.errors import DataFileError
    from capsbench.results.result import load_result

    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member) if member.isfile() and member.name.endswith(".json") else None
            text = content.read() if content else b""
            if b'"schema_version"' not in text[:256]:  # the sidecars of data files are JSON, too
                continue
            with tempfile.NamedTemporaryFile() as unchecked:
                Path(unchecked.name).write_bytes(text)
                suite = load_result(Path(unchecked.name)).suite
            if not suite.isidentifier():
                raise DataFileError(f"{member.name} is not a result of capsbench: its suite is {suite!r}.")
            path = results / suite / machine / Path(member.name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
            yield path


@dataclass(frozen=True)
class Figures:
    """A table of figures, with what stands below it."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]

    def text(self, style: str) -> str:
        """In a style of `tabulate`."""
        table = tabulate(self.rows, self.headers, tablefmt=style, disable_numparse=True)
        return "\n".join([table, "", *self.notes])


def routing_table(stages: dict[str, Stage]) -> Figures:
    """Routing beside the reference: for each case the device's time, the eager call's in brackets, and memory."""
    stage, names = stages["routing"], ("fused", "blocked", "compiled reference", "reference")
    rows = [*stage.rows, *(stages["compiled"].rows if "compiled" in stages else [])]
    cases: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if "error" not in row:
            key = (row["B"], row["I"], row["dtype"], row["gradient"])
            cases.setdefault(key, {})[row["implementation"]] = row
    lines = []
    for (B, I, dtype, gradient), found in cases.items():  # noqa: E741, N806  # the paper's letters
        fused, reference = found.get("fused"), found.get("reference")
        times = f"{_device(reference) / _device(fused):.2f}" if fused and reference else ""
        what = "forward" if gradient == "forward" else f"both, {gradient}"
        memory = [f"{one['peak_mb']:,.0f}" if one else "" for one in (fused, reference)]
        lines.append([f"{B:,}", f"{I:,}", dtype, what, *(_times(found.get(name)) for name in names), times, *memory])
    headers = ["images", "capsules", "dtype", "pass", *(f"{name} ms" for name in names)]
    notes = [
        "Milliseconds of the device alone, replayed from a CUDA graph with the L2 cache emptied before; in brackets of "
        f"an eager call, the host included. 3 iterations, 10 x 16 outputs of 8-D inputs. {stage.place}.",
        *_failures(rows),
    ]
    if "compiled" in stages and stages["compiled"].place != stage.place:
        notes.insert(1, f"The compiled reference: {stages['compiled'].place}.")
    return Figures([*headers, "x reference", "fused MB", "reference MB"], lines, notes)


def _device(row: Row) -> float:
    return float(row["device_ms"] if "device_ms" in row else row["eager_ms"])


def _times(row: Row | None) -> str:
    if row is None:
        return ""
    eager = f"({row['eager_ms']:.2f})"
    return f"{row['device_ms']:.2f} {eager}" if "device_ms" in row else eager


def steps_table(stages: dict[str, Stage]) -> Figures:
    """Training steps: forward, loss, backward, Adam."""
    stage = stages["steps"]
    lines = []
    for row in stage.rows:
        if "error" in row:
            continue
        options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
        how = [("CUDA graph", row["graph"]), ("cudnn.benchmark", row["tuned"]), ("channels_last", row["last"])]
        launched = ", ".join(name for name, is_so in how if is_so)
        sizes = [f"{row['px']}x{row['px']}", f"{row['batch']:,}", row["precision"]]
        lines.append([row["model"], *sizes, options, launched, f"{row['ms']:.2f}", f"{row['images_per_s']:,.0f}"])
    notes = [f"{stage.place}.", *_failures(stage.rows)]
    for name, title in (("answers", "Tested"), ("streams", "Drawn by one thread of the host")):
        told = [f"{_what(row)} {row['images_per_s']:,.0f}" for row in _good(stages, name)]
        elsewhere = f" ({stages[name].place})" if told and stages[name].place != stage.place else ""
        notes += [f"{title}, images/s{elsewhere}: {', '.join(told)}."] if told else []
    return Figures(["network", "image", "batch", "precision", "changed", "with", "ms", "images/s"], lines, notes)


def _what(row: Row) -> str:
    return f"{row.get('model') or row['data']}{'' if row.get('tf32', True) else ' without TF32'}"


def accuracy_table(stages: dict[str, Stage]) -> Figures:
    """Fused routing against float64 at whole sizes: relative errors of the output and of each gradient."""
    stage = stages["equality"]
    whole = [row for row in _good(stages, "equality") if "relative" in row]
    lines = [
        [
            *(f"{row['B']:,}", f"{row['I']:,}", row["dtype"], row["gradient"]),
            *(f"{error:.1e}" for error in row["relative"]),
            "yes" if row["same_bits"] else "no",
        ]
        for row in whole
    ]
    small = [float(row["error_of_allowed"]) for row in _good(stages, "equality") if "error_of_allowed" in row]
    notes = [f"Norm of the error over the norm of the true value, in float64. {stage.place}.", *_failures(stage.rows)]
    if small:
        notes.insert(1, f"{len(small)} cases of small odd sizes: at most {max(small):.2f} of the allowed error.")
    return Figures(["images", "capsules", "dtype", "gradient", "v", "du", "dW", "dbias", "same bits"], lines, notes)


TABLES = {"routing": routing_table, "steps": steps_table, "equality": accuracy_table}
"""A table for each stage that the documents show."""


def _good(stages: dict[str, Stage], name: str) -> list[Row]:
    return [row for row in stages[name].rows if "error" not in row] if name in stages else []


def _failures(rows: Sequence[Row]) -> list[str]:
    failed = [row for row in rows if "error" in row]
    return [f"{len(failed)} of {len(rows)} measurements failed; the first: {failed[0]['error']}"] if failed else []


def sound(stages: dict[str, Stage]) -> bool:
    """Whether nothing was found wrong with routing."""

    def good(row: Row) -> bool:
        # `inf` and `nan` are text in the file, and float reads them; a nan is not at most anything.
        far = FAR.get(row.get("dtype", ""), 1.0)
        near = all(float(error) <= far for error in row.get("relative", []))
        return near and row.get("same_bits", True) and float(row.get("error_of_allowed", 0)) <= ALLOWED

    return all("error" not in row and good(row) for row in stages["equality"].rows) if "equality" in stages else True


def fit(stages: dict[str, Stage], seconds: float, seeds: Sequence[int], epochs: int = 0) -> tuple[int, list[int]]:
    """How many epochs of which of the seeds of affine, capsnet beside cnn-pool, fit into so many seconds.

    Args:
        stages: Those with the rates that were measured; without them it is guessed.
        seconds: For all of it.
        seeds: Those that are wanted; the last are left out where there is no time.
        epochs: Where they are given, only seeds are chosen.

    Returns:
        The epochs, and the seeds; no seeds where not even one fits.
    """
    guessed = {"steps": {"capsnet": 25_000.0, "cnn-pool": 34_000.0}, "answers": {"capsnet": 45e3, "cnn-pool": 65e3}}
    measured: dict[str, dict[str, float]] = {"steps": {}, "answers": {}}
    for name, rates in measured.items():
        for row in _good(stages, name):
            plain = (
                row.get("tf32", True)
                if name == "answers"
                else (row["precision"], row["batch"], row["options"]) == ("bf16", 128, {})
            )
            if row["px"] == 40 and plain and row.get("graph", True):
                rates[row["model"]] = max(rates.get(row["model"], 0.0), row["images_per_s"])
    steps, answers = (guessed[name] | measured[name] for name in ("steps", "answers"))
    an_epoch = SLACK * sum(EPOCH / steps[name] + LOOK / answers[name] for name in NETWORKS)
    tests = SLACK * sum(TESTS / answers[name] for name in NETWORKS)
    for count in range(len(seeds), 0, -1):
        most = min(SCHEDULE, int(((seconds - APART) / count - tests) / an_epoch))
        if most >= (epochs or FEWEST) or (count == 1 and most > 0 and not epochs):
            return epochs or most, list(seeds[:count])
    return epochs, []


def main() -> int:
    """The command that is named; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keep = commands.add_parser("keep", help="put figures and cells into results/")
    keep.add_argument("folder", type=Path, help="what came back: figures.jsonl and results.tgz")
    keep.add_argument("machine", help="what the files are called by, such as h200")
    keep.add_argument("--results", type=Path, default=RESULTS)
    for name, text in {"table": "print", "sound": "fail if routing is wrong", "fit": "epochs and seeds"}.items():
        commands.add_parser(name, help=text).add_argument("figures", type=Path)
    commands.choices["fit"].add_argument("seconds", type=float)
    commands.choices["fit"].add_argument("seeds", type=int, nargs="+")
    commands.choices["fit"].add_argument("--epochs", type=int, default=0)
    given = parser.parse_args()
    figures: Path = given.folder / "figures.jsonl" if given.command == "keep" else given.figures
    stages = read_figures(figures.read_text().splitlines() if figures.exists() else [])
    if given.command == "sound":
        return not sound(stages)
    if given.command == "fit":
        epochs, seeds = fit(stages, given.seconds, given.seeds, given.epochs)
        print(epochs, *seeds)
        return not seeds
    if given.command == "table":
        print("\n\n".join(f"{name}\n{TABLES[name](stages).text('simple')}" for name in TABLES if name in stages))
        return 0
    keep_figures(stages, given.results / "gpu" / f"{given.machine}.json")
    for path in keep_cells(given.folder / "results.tgz", given.results, given.machine):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
