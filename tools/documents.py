"""Writes the generated parts of the documents, or with --check says which are out of date; also checks their links.

It generates docs/cli.md from the commands' own help, docs/glossary.md from its words, docs/results.md and
docs/board.html from the result files (``make figures`` draws its charts), and in any document the lines between one of
these and ``<!-- end -->``: ``<!-- results: FOLDER ... -->``, the tables of the result files in these folders,
``<!-- results: FOLDER ... without notes -->``; ``<!-- ratios: GROUP | GROUP -->``, the results of ``make bench`` for
these groups, and ``<!-- packed -->`` for packed files; ``<!-- presets: SUITE -->``, the suite's settings in each
preset; ``<!-- example: FILE -->``, the file;
``<!-- networks: LIBRARY -->``, on which images its networks work; ``<!-- digests -->``, the root digests, which
tools/digests.py writes; ``<!-- gpu: routing|steps|equality -->``, the numbers from GPUs, which tools/gpu_results.py
keeps; ``<!-- faults -->``, what ``make faults`` kept.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import gpu_results

from capsbench import registry
from capsbench.cli import cli
from capsbench.cli.listing import library_rows
from capsbench.files.published import digests
from capsbench.report.glossary import glossary_page
from capsbench.report.groups import current
from capsbench.report.pages import markdown_page, render
from capsbench.report.webpage import html_page
from capsbench.results.result import load_results
from capsbench.system.disk import human_bytes
from capsbench.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
PRESETS = re.compile(r"(<!-- presets: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
DIGESTS = re.compile(r"(<!-- digests -->\n).*?(<!-- end -->)", re.DOTALL)
RATIOS = re.compile(r"(<!-- ratios: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
PACKED = re.compile(r"(<!-- packed -->\n).*?(<!-- end -->)", re.DOTALL)
RESULTS = re.compile(r"(<!-- results: ([^>]+?)( without notes)? -->\n).*?(<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r"(<!-- example: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
NETWORKS = re.compile(r"(<!-- networks: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
FAULTS = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)
GPU = re.compile(r"(<!-- gpu: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")

EXIT_CODES = """Exit codes: 0 done; 2 wrong usage; 3 bad or missing data; 4 storage (disk, permission, lock); 5 some
cells or checks failed; 130 interrupted. Results go to stdout, everything else to stderr; `--quiet` leaves errors only.

An option comes from the command line, else from a variable that is called after the command, else from
`--config FILE.toml`:

```sh
export CAPSBENCH_RUN_DEVICE=cpu         # --device of capsbench run
export CAPSBENCH_DATA_STATUS_JSON=1     # --json of capsbench data status
capsbench run --config mine.toml        # a file with a table for each command
```

```toml
[run]
suite = "affine"
model = ["capsnet", "mine.py:Net"]
seeds = [0, 1, 2]
set = {epochs = 10, rotation = [-45, 45]}
```

`NO_COLOR=1` turns colours off. Shells complete commands, options, and the names of data sets, networks, suites and
presets:

```sh
eval "$(_CAPSBENCH_COMPLETE=bash_source capsbench)"             # bash 4.4 or newer: put it into ~/.bashrc
eval "$(_CAPSBENCH_COMPLETE=zsh_source capsbench)"              # zsh: ~/.zshrc
_CAPSBENCH_COMPLETE=fish_source capsbench | source              # fish: ~/.config/fish/completions/capsbench.fish
```
"""


def commands(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    """Every command's full name with its help, groups before their members."""
    for key, command in sorted(group.commands.items()):
        context = click.Context(
            command, info_name=f"{name} {key}", terminal_width=100, help_option_names=["-h", "--help"]
        )
        yield f"{name} {key}", command.get_help(context)
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {key}")


def command_page() -> str:
    """docs/cli.md."""
    parts = ["# The commands\n\n`make docs` makes this page from the commands' own help.\n", EXIT_CODES]
    parts += [f"## {name}\n\n```text\n{help_text}\n```\n" for name, help_text in commands(cli, "capsbench")]
    return "\n".join(parts)


def with_results(text: str) -> str:
    """A document with its tables of results up to date."""

    def table(match: re.Match[str]) -> str:
        results = [one for folder in match[2].split() for one in load_results(ROOT / folder)]
        lines = render(results, "github").splitlines()
        if match[3]:
            del lines[max(number for number, line in enumerate(lines) if line.startswith("|")) + 1 :]
        return "\n".join([match[1].rstrip(), *lines, match[4]])

    return RESULTS.sub(table, text)


def with_networks(text: str) -> str:
    """A document with its tables of the networks of a library up to date."""

    def table(match: re.Match[str]) -> str:
        rows = library_rows(registry.library_table(match[2]))
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([match[1].rstrip(), lines[0], "|" + "---|" * len(rows[0]), *lines[1:], match[3]])

    return NETWORKS.sub(table, text)


def with_faults(text: str) -> str:
    """A document with its tables of fault campaigns up to date."""

    def table(match: re.Match[str]) -> str:
        lines = []
        for path in sorted((ROOT / "results" / "faults").glob("*.json")):
            content = json.loads(path.read_text())
            size = "in full" if content["campaign"] else "in the small version of `make test`"
            lines += [f"Measured {size}:", "", "| fault | tries | lost | wrong | crashed |", "|---|---|---|---|---|"]
            for row in content["faults"]:
                lines.append(
                    f"| {row['fault']} | {row['tries']:,} | {row['lost']} | {row['wrong']} | {row['crashed']} |"
                )
        return "\n".join([match[1].rstrip(), *(lines or ["Not measured."]), match[2]])

    return FAULTS.sub(table, text)


def with_presets(text: str) -> str:
    """A document with its tables of presets up to date."""

    def table(match: re.Match[str]) -> str:
        presets = registry.load("suite", match[2]).presets
        rows = [f"| key | {' | '.join(presets)} |", f"|---|{'---|' * len(presets)}"]
        for key in vars(next(iter(presets.values())).settings):
            values = [getattr(preset.settings, key) for preset in presets.values()]
            rows.append(f"| `{key}` | {' | '.join(map(str, values))} |")
        return "\n".join([match[1].rstrip(), *rows, match[3]])

    return PRESETS.sub(table, text)


def with_digests(text: str) -> str:
    """A document with its table of root digests up to date."""

    def table(match: re.Match[str]) -> str:
        rows = ["| digits | data set | split | root digest |", "|---|---|---|---|"]
        for digits, table in digests().items():
            for name, digest in table.items():
                title, split = name.split("/")
                rows.append(f"| {digits} | {title} | `{split}` | `{digest}` |")
        return "\n".join([match[1].rstrip(), *rows, match[2]])

    return DIGESTS.sub(table, text)


def measured() -> Iterator[tuple[str, dict[str, Any]]]:
    """The results that ``make bench`` kept, each with its machine."""
    for path in sorted((ROOT / "results" / "benchmarks").glob("*.json")):
        content = json.loads(path.read_text())
        for one in content["benchmarks"]:
            yield f"{content['cpu']}, numpy {content['numpy']}, h5py {content['h5py']}", one


def two_digits(ratio: float) -> str:
    """A ratio with the digits that it bears: a machine of the same name on another day may show twice as much."""
    return f"{float(f'{ratio:.2g}'):g}"


def with_ratios(text: str) -> str:
    """A document with its tables of speeds up to date: ratios of minima of alternating runs."""

    def table(match: re.Match[str]) -> str:
        groups = [group.strip() for group in match[2].split("|")]
        found = [(where, one) for where, one in measured() if one["group"] in groups and "ours" in one]
        found.sort(key=lambda one: groups.index(one[1]["group"]))
        rows = ["| what | compared with | times as fast | must be at least |", "|---|---|---|---|"]
        for _, one in found:
            for other, ratio in one["times as fast"].items():
                gate = one["at least"].get(other)
                rows.append(f"| {one['group']}: {one['ours']} | {other} | {two_digits(ratio)} | {gate or ''} |")
            if "times the slower of the two" in one:
                times = one["times the slower of the two"]
                rows.append(f"| | the slower of the two | {two_digits(times)} times as long | at most 1.5 |")
        rows += [f"\n{where}." for where in sorted({where for where, _ in found})]
        return "\n".join([match[1].rstrip(), *rows, match[3]])

    return RATIOS.sub(table, text)


def with_packed(text: str) -> str:
    """A document with its table of packed sizes up to date."""

    def table(match: re.Match[str]) -> str:
        rows = ["| samples of the embedded digits | contiguous | packed | times smaller |", "|---|---|---|---|"]
        for _, one in measured():
            if one["group"] == "packed":
                sizes = " | ".join(human_bytes(one[key]) for key in ("bytes", "packed"))
                rows.append(
                    f"| {one['batch']:,} of `{one['dataset']}` | {sizes} | {one['bytes'] / one['packed']:.1f} |"
                )
        return "\n".join([match[1].rstrip(), *rows, match[2]])

    return PACKED.sub(table, text)


def with_gpu(text: str) -> str:
    """A document with its tables of numbers from GPUs up to date, one for each machine."""

    def table(match: re.Match[str]) -> str:
        kept = [gpu_results.load_kept(path) for path in sorted((ROOT / "results" / "gpu").glob("*.json"))]
        tables = [gpu_results.TABLES[match[2]](stages).text("github") for stages in kept if match[2] in stages]
        return match[1] + "\n\n".join(tables) + "\n" + match[3]

    return GPU.sub(table, text)


def with_examples(text: str) -> str:
    """A document with its copies of examples up to date."""

    def copied(match: re.Match[str]) -> str:
        return f"{match[1]}```python\n{(ROOT / match[2]).read_text()}```\n{match[3]}"

    return EXAMPLE.sub(copied, text)


def documents() -> list[Path]:
    """Every document of the project."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("capsbench/data/*.md")])


def broken_links(path: Path) -> Iterator[str]:
    """The links of a document whose file does not exist."""
    for match in LINK.finditer(path.read_text()):
        if "://" not in match[1] and not (path.parent / match[1]).exists():
            yield f"{path.relative_to(ROOT)} links to {match[1]}, which does not exist"


def up_to_date(text: str) -> str:
    """A document with all its generated parts."""
    makers = (
        with_results,
        with_ratios,
        with_packed,
        with_digests,
        with_presets,
        with_faults,
        with_networks,
        with_gpu,
        with_examples,
    )
    for make in makers:
        text = make(text)
    return text


def main() -> int:
    """Writes, or with --check compares; the exit code."""
    wanted = {path: up_to_date(path.read_text()) for path in documents()}
    wanted[ROOT / "docs" / "cli.md"] = command_page()
    wanted[ROOT / "docs" / "glossary.md"] = glossary_page()
    results, outdated = current(load_results(ROOT / "results"))
    wanted[ROOT / "docs" / "results.md"] = markdown_page(results, "images/results")
    wanted[ROOT / "docs" / "board.html"] = html_page(results, outdated=outdated)
    behind = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" not in sys.argv:
        for path in behind:
            path.write_text(wanted[path])
            print(f"written: {path.relative_to(ROOT)}")
        behind = []
    faults = [f"{path.relative_to(ROOT)} is out of date; run: make docs" for path in behind]
    faults += [fault for path in documents() for fault in broken_links(path)]
    if f"## {VERSION}" not in (ROOT / "CHANGELOG.md").read_text():
        faults.append(f"CHANGELOG.md does not mention version {VERSION}")
    print("\n".join(faults) if faults else "documents: up to date")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
