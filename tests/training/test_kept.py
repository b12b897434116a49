"""Kept weights: what was saved, each of the selected once, or nothing."""

import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from capsbench.training.checkpoints import load_checkpoint, save_checkpoint
from capsbench.training.config import Selected, Trained
from capsbench.training.kept import Kept, held, load_kept, put_foreign_aside, save_kept

ABOUT = {"date": "today", "environment": {"torch": "2", "threads": 2, "triton": None, "tf32 in products": False}}


def state(value: float) -> dict[str, Any]:
    return {"weight": torch.full((300, 10), float(value)), "_extra_state": {"seen": 3}}


def trained() -> Trained:
    first, last = Selected(20, 0.4, 0.5, state(1)), Selected(50, 1.0, 0.25, state(2))
    row = {"step": 20, "epoch": 0.4, "loss": 1 / 3, "accuracy": 0.5}
    chosen = {"target": first, "best": first, "last": last}
    return Trained(history=[row], selected=chosen, steps=50, images=1600, seconds=1 / 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights" / "net-seed0-abc.single.pt"
    save_kept(path, Kept("all that determines it", trained(), ABOUT))
    return path


def test_what_was_kept_comes_back_to_the_last_digit(path: Path) -> None:
    kept = load_kept(path)
    assert kept is not None and kept.about == ABOUT
    assert kept.trained.metrics() == trained().metrics()
    for name, one in trained().selected.items():
        found = kept.trained.selected[name]
        assert (found.step, found.epoch, found.accuracy) == (one.step, one.epoch, one.accuracy)
        assert torch.equal(found.state["weight"], one.state["weight"])
    assert kept.is_of("all that determines it", state(0), steps=50)


def test_weights_with_two_names_are_kept_once(path: Path) -> None:
    content = load_checkpoint(path)
    assert content is not None and set(content["states"]) == {20, 50}
    assert 2 * 4 * 3000 < path.stat().st_size < 2 * 4 * 3000 + 8000


def test_weights_of_another_training_are_not_taken(path: Path) -> None:
    kept = load_kept(path)
    assert kept is not None
    assert not kept.is_of("something else", state(0), steps=50)
    assert not kept.is_of("all that determines it", state(0), steps=51)
    assert not kept.is_of("all that determines it", {"weight": torch.zeros(300, 9), "_extra_state": None}, steps=50)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo_there(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def unsigned(path: Path) -> None:
    path.with_suffix(".pt.sha256").unlink()


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        content = load_checkpoint(path)
        assert content is not None
        change(content)
        save_checkpoint(path, content)

    return rewrite


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flipped,
    "cut": cut,
    "a folder": folder_there,
    "a FIFO": fifo_there,
    "a link to itself": link_to_itself,
    "without its digest": unsigned,
    "another name": rewritten(lambda content: content.update(name="net-seed1-abc.single")),
    "no training": rewritten(lambda content: content.pop("training")),
    "a history of words": rewritten(lambda content: content["facts"].update(history=[{"accuracy": "all"}])),
    "a history that is no list": rewritten(lambda content: content["facts"].update(history=3)),
    "seconds without an end": rewritten(lambda content: content["facts"].update(seconds=math.inf)),
    "unknown facts": rewritten(lambda content: content["facts"].update(more=1)),
    "no best": rewritten(lambda content: content["selected"].pop("best")),
    "states of other steps": rewritten(lambda content: content.update(states={})),
    "about nothing": rewritten(lambda content: content.update(about=3)),
    "about no place": rewritten(lambda content: content["about"].pop("environment")),
    "about a place of one word": rewritten(lambda content: content["about"].update(environment="here")),
    "about a place without threads": rewritten(lambda content: content["about"]["environment"].pop("threads")),
    "about threads in words": rewritten(lambda content: content["about"]["environment"].update(threads="two")),
    "about a place of tensors": rewritten(lambda content: content["about"]["environment"].update(torch=torch.ones(2))),
    "about a day without an end": rewritten(lambda content: content["about"].update(date=math.inf)),
    "about another file": rewritten(lambda content: content["about"].update(file="other.pt")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_nothing_and_makes_place(damage: str, path: Path) -> None:
    DAMAGE[damage](path)
    assert load_kept(path) is None
    lines: list[str] = []
    put_foreign_aside(path, lines.append)
    assert len(lines) == 1 and f"{path.name}.aside" in lines[0]
    save_kept(path, Kept("again", trained(), ABOUT))
    assert load_kept(path) is not None


def test_what_is_missing_is_nothing(tmp_path: Path) -> None:
    assert load_kept(tmp_path / "net.pt") is None
    put_foreign_aside(tmp_path / "net.pt", pytest.fail)


def test_a_larger_file_than_a_network_can_have_is_not_read(path: Path) -> None:
    assert load_kept(path, largest=path.stat().st_size - 1) is None


def test_of_two_runs_one_waits_for_the_other(path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with held(path, order.append):
            order.append("second")

    with held(path, pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        while not order:
            thread.join(0.01)
        order.append("first is done")
    thread.join()
    assert order == [f"another run trains this network; waiting for {path}", "first is done", "second"]
