"""Judged scores: the metrics of the run of the same network, tables beside it, and what is refused."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import capsbench
from capsbench.bench.bench import Bench
from capsbench.contracts import Output, TensorBatch
from capsbench.data.samples import Subset
from capsbench.errors import DataFileError, ParameterError, UsageError
from capsbench.evaluation.inference import predict, reconstruct
from capsbench.files.datafile import open_dataset
from capsbench.judging.judge import judge
from capsbench.judging.tests import tests as write_tests
from capsbench.report.groups import groups
from capsbench.report.pages import paper_table, render
from capsbench.results.result import load_results

from .elsewhere import answered, oracle

FACTS = ("within reach", "factors", "partners", "references")
CHANGES = {
    "affine": {"rotation": "40", "shear": "0", "scale": "1"},
    "crowding": {"spacings": "20"},
    "clutter": {"scraps": "4"},
}


class Linear(torch.nn.Module):
    """Learns a little, and draws what a class looks like, darkened by the image."""

    def __init__(self, image_size: Any) -> None:
        super().__init__()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.scores = torch.nn.Linear(height * width, 10)
        self.drawn = torch.nn.Parameter(torch.rand(10, height, width))

    def forward(self, images: Tensor) -> Output:
        return Output(
            scores=self.scores(images.flatten(1)),
            reconstruct=lambda classes: self.drawn[classes][:, None] * (1 - images / 2),
        )

    def loss(self, output: Output, batch: TensorBatch) -> Tensor:
        wanted = torch.nn.functional.one_hot(batch.labels, 10).float()
        wanted = wanted if batch.labels.ndim == 1 else wanted.sum(1)
        return torch.nn.functional.binary_cross_entropy_with_logits(output.scores, wanted)


def save_scores(model: torch.nn.Module, folder: Path, *, drawings: bool) -> None:
    """What someone saves of a network for the tests in a folder."""
    for path in folder.glob("*.h5"):
        data = open_dataset(path)
        arrays: dict[str, Any] = {"scores": predict(model, data).scores}
        if drawings:
            classes = np.tile(np.arange(10), (250, 1))
            starts = range(0, len(data), 250)
            parts = [reconstruct(model, Subset(data, np.arange(one, one + 250)), classes) for one in starts]
            arrays["reconstructions"] = np.concatenate([part for part in parts if part is not None])
        np.savez(path.with_suffix(".npz"), digest=data.digest, **arrays)


@pytest.mark.parametrize("suite", ["affine", "mnist", "overlap", "crowding", "clutter"])
def test_scores_have_the_metrics_of_the_run_of_their_network(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    build = Bench.model

    def noted(bench: Bench, *arguments: Any, **more: Any) -> torch.nn.Module:
        models.append(build(bench, *arguments, **more))
        return models[-1]

    monkeypatch.setattr(Bench, "model", noted)
    changes = {"eval_every": "0", **CHANGES.get(suite, {})}
    (ran,) = capsbench.run(suite, models=Linear, preset="smoke", changes=changes, digits="embedded", out=tmp_path)
    write_tests(suite, out=tmp_path / "tests", preset="smoke", changes=changes, digits="embedded")
    save_scores(models[-1], tmp_path / "tests", drawings=suite == "overlap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an epoch teaches little, and so chance may find a better order
        (judged,) = judge(suite, tmp_path / "tests", label="elsewhere", digits="embedded", out=tmp_path)
    expected = dict(ran.metrics["checkpoints"]["best"])
    for fact in ("step", "epoch", "validation"):  # which scores do not tell
        del expected[fact]
    if suite == "overlap":
        assert expected["segmentation"].pop("each layer alone")  # the layers were not shown to the network
        assert expected["absent"]["any ink"]["present"] > 0
    assert judged.metrics["checkpoints"] == {"best": expected}
    for fact in FACTS:
        assert judged.metrics.get(fact) == ran.metrics.get(fact)
    assert (judged.origin, judged.label, judged.protocol) == ("scores", "elsewhere", ran.protocol)

    (group,) = groups(load_results(tmp_path))
    names = [row[0] for row in group.table().rows]
    assert names[0] == "Linear" and "elsewhere (scores)" in names
    assert "elsewhere (scores) minus Linear, paired by image: seed 0 +0.0" in render([ran, judged])
    assert all(figure.csv() for figure in group.charts())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of mnist, with the scores of an oracle."""
    return answered(tmp_path_factory.mktemp("mnist"), "mnist")


@pytest.fixture
def own(digits: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    for name in ("manifest.json", "test.npz"):
        (tmp_path / name).write_bytes((digits / name).read_bytes())
    return tmp_path


def judged(folder: Path, suite: str = "mnist", label: str = "net", **more: Any) -> Any:
    return judge(suite, folder, label=label, digits="embedded", out="runs", **more)


def test_scores_alone_make_a_table(digits: Path) -> None:
    (result,) = found = judged(digits)
    assert result.metrics["checkpoints"]["best"]["test"]["share"] == 1
    assert "net (scores)" in str(found) and "mnist, preset smoke, embedded digits" in str(found)
    assert "<td>net (scores)" in found._repr_html_()
    assert load_results("runs") == [result]


def test_the_same_scores_as_csv_are_judged_alike(own: Path) -> None:
    (first,) = judged(own)
    scores = np.load(own / "test.npz")["scores"]
    rows = [f"{n},{','.join(map(str, row))}" for n, row in enumerate(scores.tolist())]
    (own / "test.npz").unlink()
    text = "\n".join(["index,0,1,2,3,4,5,6,7,8,9", *rows[::-1]])
    digest = json.loads((own / "manifest.json").read_text())["files"][0]["digest"]
    (own / "test.csv").write_text(f"# digest {digest}\n{text}")
    (second,) = judged(own)
    assert first.metrics == second.metrics and first.source != second.source
    (own / "test.csv").write_text(text)
    with pytest.warns(UserWarning, match=r"no digest in test\.csv: nothing shows that the scores are for these images"):
        (third,) = judged(own)
    assert third.metrics == first.metrics and "no digest in test.csv" in render([third])


def test_a_label_that_is_judged_again_is_replaced_and_another_seed_is_not(own: Path) -> None:
    judged(own)
    judged(own, seed=1)
    scores, digest = (np.load(own / "test.npz")[key] for key in ("scores", "digest"))
    np.savez(own / "test.npz", scores=np.where(np.arange(1000)[:, None] < 100, 0, scores), digest=digest)
    with pytest.warns(UserWarning, match="test: 100 of 1,000 images have equal scores"):
        judged(own)
    first, second = sorted(load_results("runs"), key=lambda one: one.seed)
    assert (first.seed, second.seed) == (0, 1)
    assert first.metrics["checkpoints"]["best"]["test"]["share"] < 1
    rows = groups([first, second])[0].table().rows
    assert [row[0] for row in rows] == ["net (scores)"] and "±" in rows[0][3]


def test_scores_stand_in_no_row_of_the_papers_values(digits: Path) -> None:
    (result,) = judged(digits, label="capsnet (iterations=1, reconstruction=False)")
    full = result.__class__(**{**vars(result), "preset": "paper", "digits": "mnist"})
    assert {row[-1] for row in paper_table([full]).rows} == {"not measured"}


def test_another_order_of_the_classes_is_told_in_the_table_too(own: Path) -> None:
    scores, digest = (np.load(own / "test.npz")[key] for key in ("scores", "digest"))
    np.savez(own / "test.npz", scores=np.roll(scores, 1, axis=1), digest=digest)
    with pytest.warns(UserWarning, match="test: 0.0% of the answers are right; if the columns stood for the classes 9"):
        (result,) = judged(own)
    assert "net: test: 0.0% of the answers are right" in render([result])


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    (entry,) = content["files"]
    content |= {key: value for key, value in changes.items() if key in content}
    content["files"] = [{**entry, **{key: value for key, value in changes.items() if key in entry}}]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"digest": "ab" * 32}, "has a manifest of other tests: test is 1,000 images with digest abababab"),
        ({"count": 999}, "has a manifest of other tests: test is 999 images"),
        ({"image_shape": [28, 14]}, r"has image_shape \[28, 14\] for test, whose images are \[28, 28\]"),
        ({"image_shape": [28.0, 28.0]}, "image_shape must be whole numbers"),
        ({"name": "tset"}, "does not name the tests of suite 'mnist' in preset 'smoke': test, tset"),
        ({"preset": "smkoe"}, "Did you mean 'smoke'"),
        ({"suite": "affine"}, "is of suite 'affine', not 'mnist'"),
    ],
)
def test_a_manifest_of_other_tests_is_refused(own: Path, changes: dict[str, Any], told: str) -> None:
    edited(own, **changes)
    with pytest.raises((DataFileError, UsageError), match=told):
        judged(own)
    assert not Path("runs").exists()


def test_scores_of_other_digits_are_refused(own: Path) -> None:
    scores = np.load(own / "test.npz")["scores"]
    np.savez(own / "test.npz", scores=scores, digest="cd" * 32)
    with pytest.raises(DataFileError, match=r"test\.npz is for other images: its digest is cdcd"):
        judged(own)


def test_missing_scores_are_named_with_those_that_are_no_tests(own: Path) -> None:
    (own / "test.npz").rename(own / "tset.npz")
    with pytest.raises(DataFileError, match=r"no scores of test \(1 of 1 tests\).* It has scores of tset"):
        judged(own)


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "x" * 81, "\x1b[2J"])
def test_a_label_that_no_table_can_show_is_refused(label: str, digits: Path) -> None:
    with pytest.raises(ParameterError, match="label must be a text"):
        judged(digits, label=label)


def test_a_folder_that_is_none_and_one_without_a_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="There is no folder"):
        judged(tmp_path / "nowhere")
    with pytest.raises(DataFileError, match=r"There is no manifest\.json in .*capsbench tests"):
        judged(tmp_path)


def test_pairs_need_no_drawings(tmp_path: Path) -> None:
    (result,) = judged(answered(tmp_path / "pairs", "overlap", oracle), "overlap")
    best = result.metrics["checkpoints"]["best"]
    assert best["exact pair"]["share"] == 1 and best["segmentation"] == {} == best["absent"]
    assert "does not reconstruct" in render([result])
