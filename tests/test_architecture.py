"""The rules of the house: which way imports run, which packages are built, and where the links lead."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import capsbench

ROOT = Path(__file__).resolve().parent.parent

LAYERS = [
    {"errors", "version", "spec", "sources"},
    {"paths"},
    {"contracts", "registry", "system"},
    {"parameters", "randomness", "geometry", "statistics", "results", "scoring"},
    {"building"},
    {"data", "conformance", "report"},
    {"files", "evaluation"},
    {"importing", "training"},
    {"bench"},
    {"judging", "suites"},
    {"cli"},
]
"""Packages and modules of the toolkit: imports run from a later line to an earlier one, or within a package."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> Sequence[ast.Import | ast.ImportFrom]:
    """Its statements that import, wherever they stand."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path: Path) -> Iterator[str]:
    for node in imported(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            rooms = path.relative_to(ROOT).parts[:-1]
            here = rooms if rooms[0] == "capsbench" else ("capsbench", *rooms)
            base = here[: len(here) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def toolkit_files() -> list[Path]:
    folders = ("generators", "models")  # links
    return [
        path
        for path in (ROOT / "capsbench").rglob("*.py")
        if path.relative_to(ROOT / "capsbench").parts[0] not in folders
    ]


def package(path: Path) -> str:
    return path.relative_to(ROOT / "capsbench").with_suffix("").parts[0]


def measures_routing(path: Path, name: str) -> bool:
    """The one exception: the suite that measures routing imports it."""
    return path.name == "throughput_timing.py" and name.startswith("capsbench.models.routing.")


@pytest.mark.parametrize("path", toolkit_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_of_the_toolkit_run_one_way(path: Path) -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    here = package(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "capsbench" and len(parts) > 1 and not measures_routing(path, name):
            if parts[1] == here or here in ("__init__", "__main__"):
                continue
            assert parts[1] in height, f"{path.name} imports {name}, which has no layer"
            assert height[parts[1]] < height[here], f"{path.name} imports {name}, which is not below {here}"


def test_imports_within_a_package_make_no_circle() -> None:
    below: dict[str, set[str]] = {}
    for path in toolkit_files():
        here = "capsbench." + ".".join(path.relative_to(ROOT / "capsbench").with_suffix("").parts)
        if path.stem != "__init__":
            below[here] = {".".join(name.split(".")[:3]) for name in imports(path)}
    graph = {module: {name for name in names if name in below} for module, names in below.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", toolkit_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_toolkit_imports_neither_generators_nor_models(path: Path) -> None:
    for name in imports(path):
        assert measures_routing(path, name) or not name.startswith(
            ("capsbench.generators", "capsbench.models", "generators", "models")
        ), name


ON_THE_BENCH = {
    "generators": {"contracts", "errors", "geometry", "parameters", "randomness"},
    "models": {"building", "contracts", "errors", "parameters", "registry", "sources"},
}
"""What data sets and networks import of the toolkit."""


@pytest.mark.parametrize("folder", ON_THE_BENCH)
def test_what_is_put_on_the_bench_imports_siblings_and_what_plug_ins_may(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] not in ON_THE_BENCH, f"{path}: {name}"
            assert parts[0] != "capsbench" or parts[1] in {folder, *ON_THE_BENCH[folder]}, f"{path}: {name}"


def test_no_import_climbs_up() -> None:
    for path in [*toolkit_files(), *(ROOT / "generators").rglob("*.py"), *(ROOT / "models").rglob("*.py")]:
        for node in imported(path):
            assert not (isinstance(node, ast.ImportFrom) and node.level > 1), path


def test_every_package_of_the_tree_is_built() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(init.relative_to(ROOT).parent.parts)
        for init in (ROOT / "capsbench").rglob("__init__.py")
        if "capsbench/generators" not in init.as_posix() and "capsbench/models" not in init.as_posix()
    }
    for folder in ("generators", "models"):
        found |= {
            ".".join(("capsbench", *init.relative_to(ROOT).parent.parts))
            for init in (ROOT / folder).rglob("__init__.py")
        }
    assert set(stated) == found


@pytest.mark.parametrize("folder", ["generators", "models"])
def test_the_links_lead_where_they_should(folder: str) -> None:
    link = ROOT / "capsbench" / folder
    assert link.is_symlink()
    assert link.resolve() == ROOT / folder


def test_the_public_face_is_whole_and_sorted() -> None:
    assert list(capsbench.__all__) == sorted(capsbench.__all__)
    for name in capsbench.__all__:
        assert getattr(capsbench, name) is not None
    assert capsbench.models.build and capsbench.generators.CATALOG
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = capsbench.nothing_of_ours


def test_every_module_opens_with_a_sentence() -> None:
    for path in [*toolkit_files(), *(ROOT / "generators").rglob("*.py"), *(ROOT / "models").rglob("*.py")]:
        text = ast.get_docstring(tree(path))
        assert text and not text.startswith(" "), path


WITHOUT_TORCH = [
    *("building", "contracts", "errors", "geometry", "parameters", "randomness", "registry", "spec", "statistics"),
    "scoring",
    *("generators", "models", "bench", "bench.remote", "report.pages", "report.comparison"),
    *(
        f"suites.{name}"
        for name in ("affine", "clutter", "crowding", "mnist", "overlap", "reconstruction", "throughput")
    ),
    *(f"system.{name}" for name in ("disk", "machine", "memory", "processes", "timing")),
    *(f"evaluation.{name}" for name in ("accuracy", "factors", "pairs", "predictions", "segmentation", "subjects")),
    *("bench.data", "judging.judge", "judging.tests"),
]
"""Modules that can be imported without torch: it takes seconds to import, and not every command needs it."""


def test_what_needs_no_torch_is_imported_without_it() -> None:
    program = f"import sys, {', '.join(f'capsbench.{name}' for name in WITHOUT_TORCH)}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
