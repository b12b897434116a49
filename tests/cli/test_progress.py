"""Progress: a bar on a terminal, plain lines elsewhere, and never a word on stdout."""

import io
import sys
import time

import pytest

from capsbench.cli.progress import PLAIN_SECONDS, progress, progress_of_several


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_short_job_prints_nothing_where_there_is_no_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("x.h5") as report:
        for done in range(0, 1001, 100):
            clock[0] += PLAIN_SECONDS / 20
            report(done, 1000)
    assert capsys.readouterr() == ("", "")


def test_a_long_job_prints_a_plain_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("x.h5") as report:
        for done in range(0, 60_000, 1000):
            clock[0] += PLAIN_SECONDS / 20
            report(done, 60_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "x.h5: 19,000 of 60,000\nx.h5: 39,000 of 60,000\nx.h5: 59,000 of 60,000\n"


def test_many_short_jobs_one_after_the_other_print_a_plain_line_now_and_then_too(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_of_several(every=60.0) as bar:
        for job in range(10):
            with bar(f"test {job}, images") as report:
                for done in (500, 1000):
                    clock[0] += 10
                    report(done, 1000)
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "test 2, images: 1,000 of 1,000\ntest 5, images: 1,000 of 1,000\ntest 8, images: 1,000 of 1,000\n",
    )


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("multimnist-test.h5") as report:
        report(0, 5000)
        report(4096, 5000)
        report(5000, 5000)
    assert "multimnist-test.h5" in terminal.getvalue() and "5000/5000" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_job_that_fails_on_a_terminal_leaves_the_cursor_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), progress("x") as report:
        report(0, 10)
        raise KeyboardInterrupt
    text = terminal.getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_without_a_stderr_nothing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(time, "monotonic", iter(range(0, 1000, 100)).__next__)
    with progress("x") as report:
        report(1, 2)
    assert capsys.readouterr().out == ""
