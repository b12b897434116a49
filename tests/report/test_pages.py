"""Pages of results: the paper's values with ours beside them, and every table and chart."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from capsbench import registry
from capsbench.cli import cli
from capsbench.errors import DataFileError, StorageError
from capsbench.report.pages import NOT_MEASURED, markdown_page, paper_table, save_page
from capsbench.results.result import Result, save_result
from capsbench.suites.mnist import TABLE_1


def point(correct: int) -> dict[str, object]:
    share = correct / 10_000
    return {"share": share, "correct": correct, "total": 10_000, "interval": [share - 0.001, share + 0.001]}


def result(
    *, preset: str = "paper", digits: str = "mnist", seed: int = 0, model: str = "cnn", wrong: int = 41
) -> Result:
    tested = {"test": point(10_000 - wrong)}
    return Result(
        suite="mnist",
        version=1,
        preset=preset,
        model=model,
        label=model,
        source="",
        seed=seed,
        cell=f"{seed:012x}",
        settings={},
        parameters={},
        digits=digits,
        data={},
        metrics={
            "parameters": 1000,
            "training_seconds": 90.0,
            "checkpoints": {"best": tested, "last": tested},
            "history": [{"epoch": 1.0, "accuracy": 0.9}],
        },
        seconds=1.0,
        environment={"device": "Some GPU"},
        date="2026-01-01T00:00:00+00:00",
    )


def ours(results: list[Result]) -> dict[str, str]:
    return {row[1]: row[3] for row in paper_table(results).rows if row[0] == "mnist"}


def test_what_was_not_measured_says_so() -> None:
    found = ours([])
    assert len(found) == len(TABLE_1) and set(found.values()) == {NOT_MEASURED}
    assert [row[2] for row in paper_table([]).rows if row[0] == "mnist"] == list(TABLE_1.values())


@pytest.mark.parametrize("change", [{"preset": "small"}, {"digits": "embedded"}])
def test_small_networks_and_embedded_digits_never_stand_beside_the_paper(change: dict[str, str]) -> None:
    assert ours([result(**change)])["cnn: test error (%)"] == NOT_MEASURED  # type: ignore[arg-type]


def test_a_plug_in_that_fails_does_not_hide_what_the_others_say(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"broken": "no_such_module_anywhere:Suite"}
    shipped = registry.catalog("suite")
    monkeypatch.setattr(registry, "catalog", lambda family: broken | shipped)
    assert ours([result()])["cnn: test error (%)"].startswith("0.41")


def test_a_result_that_its_suite_did_not_write_is_said_to_be_one() -> None:
    with pytest.raises(DataFileError, match="suite 'mnist' cannot read a result"):
        paper_table([replace(result(), metrics={})])


def test_ours_come_with_their_seeds_changes_and_device() -> None:
    one = ours([result()])
    assert one["cnn: test error (%)"] == "0.41 (0.31..0.51) (1 seed, Some GPU)"
    assert one["capsnet (iterations=3, reconstruction=True): test error (%)"] == NOT_MEASURED
    three = [result(seed=seed, wrong=40 + seed) for seed in (0, 1, 2)]
    shorter = [result(preset="paper (epochs=30)", wrong=50)]
    told = ours(three + shorter)["cnn: test error (%)"]
    assert told == "0.41 ± 0.01 (3 seeds, Some GPU); 0.50 (0.40..0.60) (epochs=30, 1 seed, Some GPU)"
    form = "capsnet (iterations=3, reconstruction=True)"
    routed = replace(result(), label=form, model="capsnet", parameters={"iterations": 3, "reconstruction": True})
    both = ours([*three, routed])
    assert both["cnn: test error (%)"] == "0.41 ± 0.01 (3 seeds, Some GPU)"
    assert both[f"{form}: test error (%)"].endswith("(1 seed, Some GPU)")


def test_a_markdown_page_has_tables_notes_and_charts(tmp_path: Path) -> None:
    page = markdown_page([result()], "images/results")
    assert page.startswith("# Results\n\n") and page.endswith("\n") and "\n\n\n" not in page
    assert "## mnist, preset paper, full MNIST, Some GPU, one seed: 0" in page
    assert "| cnn       |" in page and "0.41 (0.31..0.51)" in page
    assert "- Fewer than three seeds" in page
    assert re.findall(r"!\[.*\]\((.*)\)", page) == [
        "images/results/mnist-error.png",
        "images/results/mnist-training.png",
    ]
    assert "![" not in markdown_page([result()])


def test_a_name_is_text_of_a_markdown_page_and_nothing_else() -> None:
    name = "a|b <script>*x*</script> [y](z)"
    page = markdown_page([result(model=name), result()])
    assert r"a\|b \<script>\*x\*\</script> \[y\](z)" in page and "<script" not in page.replace(r"\<", "")
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1


def test_networks_come_in_the_suites_order_whatever_the_files_are_called() -> None:
    found = [result(model=model) for model in ("capsnet", "mine.py:Net", "cnn")]
    rows = [
        line for line in markdown_page(found).splitlines() if re.match(r"\| (cnn|capsnet|mine)\S*\s+\| 1,000", line)
    ]
    assert [row.split()[1] for row in rows] == ["cnn", "capsnet", "mine.py:Net"]


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        save_page("text", tmp_path / "file" / "page.md")


def test_report_writes_pages_beside_its_table(tmp_path: Path) -> None:
    save_result(replace(result(), digits="embedded"), tmp_path / "runs" / "mnist" / "one.json")
    places = {key: tmp_path / name for key, name in {"markdown": "docs/page.md", "html": "page.html"}.items()}
    options = [part for key, path in places.items() for part in (f"--{key}", str(path))]
    run = CliRunner().invoke(
        cli, ["report", str(tmp_path / "runs"), *options, "--charts", str(tmp_path / "docs" / "img")]
    )
    assert run.exit_code == 0 and "mnist, preset paper" in run.stdout
    assert f"page: {places['html']}" in run.stderr
    assert "(img/mnist-error.png)" in places["markdown"].read_text()
    assert (tmp_path / "docs" / "img" / "mnist-error.csv").exists()
    assert places["html"].read_text().startswith("<!doctype html>")


def reported(*arguments: str) -> tuple[int, str]:
    """What the command ends with; and what it says."""
    run = CliRunner().invoke(cli, ["report", *arguments])
    return (run.exit_code, run.output) if run.exception is None else (2, str(run.exception))


def test_report_says_which_cells_failed_and_that_a_suite_draws_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("capsbench.report.groups.charts", lambda results: [])
    save_result(result(), tmp_path / "runs" / "mnist" / "cnn-seed0-0123456789ab.json")
    (tmp_path / "runs" / "mnist" / "capsnet-seed0-0123456789ab.error.txt").write_text("long\nValueError: no\n")
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "runs"), "--charts", str(tmp_path / "charts")])
    assert done.exit_code == 0
    assert "Note: no result of capsnet-seed0-0123456789ab: ValueError: no\n" in done.stderr
    assert "Note: no charts; the suites of these results draw none.\n" in done.stderr


def test_a_page_is_written_over_pages_alone() -> None:
    save_result(result(), Path("runs/r.json"))
    before = Path("runs/r.json").read_bytes()
    Path("linked.html").symlink_to("runs/r.json")
    Path("mine.md").write_text("mine")
    for arguments, message in (
        (["runs", "--html", "runs/r.json"], "must end in .html or .htm, got runs/r.json"),
        (["runs", "--markdown", "page.txt"], "must end in .md or .markdown"),
        (["runs/r.json", "--html", "linked.html"], "which it is made from"),
        (["runs", "--html", "linked.html"], "is no page of ours. Add --force"),
        (["runs", "--markdown", "mine.md"], "is no page of ours. Add --force"),
    ):
        assert reported(*arguments)[0] == 2 and message in reported(*arguments)[1]
    assert Path("mine.md").read_text() == "mine"
    for _ in range(2):  # the second time over our own page
        assert reported("runs", "--markdown", "page.md", "--html", "page.html")[0] == 0
    assert reported("runs", "--markdown", "mine.md", "--force")[0] == 0
    assert Path("mine.md").read_text() == Path("page.md").read_text() and Path("runs/r.json").read_bytes() == before


def test_names_that_are_not_utf_8_are_written_and_linked() -> None:
    save_result(result(), Path("runs/r.json"))
    odd = "c\udcff x"
    code, _ = reported("runs", "--markdown", "b\udcff.md", "--html", "b\udcff.html", "--charts", odd)
    assert code == 0 and Path("b\udcff.html").exists()
    assert "](c%FF%20x/" in Path("b\udcff.md").read_text()
    assert list(Path(odd).glob("*.png"))
