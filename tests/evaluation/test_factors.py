"""Accuracy by factor, worked by hand and by loops."""

from typing import Any

import numpy as np
import pytest
import torch

from capsbench.contracts import Output
from capsbench.data.streaming import Stream, stream
from capsbench.evaluation.factors import EDGES, binned, by_factor, displacement, factors, near, one_at_a_time
from capsbench.evaluation.predictions import Predictions
from capsbench.evaluation.subjects import NetworkSubject


def answers(correct: list[int] | np.ndarray) -> Predictions:
    """Answers of which some are right; each image shows a digit of its own."""
    named = np.where(np.asarray(correct), 3, 5)
    number = len(named)
    return Predictions(np.eye(10, dtype=np.float32)[named], np.full(number, 3, np.uint8), np.arange(number, dtype="i4"))


def neutral(variants: int = 4, rotation: float = 0) -> Stream:
    return stream("affnist", split="test", digits="embedded", variants=variants, rotation=rotation, shear=0, scale=1)


def test_a_map_taken_apart_by_hand() -> None:
    transform = np.array([[15, -0.1, 0.9, 1.1, -3, 2.5], [0, 0, 1, 1, 0, -7]], np.float32)
    found = {name: values.round(6).tolist() for name, values in factors(transform).items()}
    assert found == {
        "rotation": [15, 0],
        "shear": [-0.1, 0],
        "scale_x": [1.1, 1],
        "scale_y": [0.9, 1],
        "translation": [3, 7],
    }
    assert displacement(np.array([[-128, 3], [2, -2]], np.int8)).tolist() == [128, 2]  # of which int8 has no positive


def test_bins_by_hand() -> None:
    values = np.array([-9.0, 0.0, 0.5, 1.0, 1.5, 9.0, 9.0])
    found = binned(answers([1, 1, 0, 0, 1, 1, 0]), values, (0, 1, 2, 3, 4))
    assert [(one["low"], one["high"], one["correct"], one["total"]) for one in found] == [
        (0, 1, 2, 3),  # what lies below is in the first, too
        (1, 2, 1, 2),
        (3, 4, 1, 2),  # and what lies above in the last; the third has nothing
    ]
    assert found[0]["share"] == pytest.approx(2 / 3)
    for one in found[1:]:  # Clopper and Pearson: at the upper end p no more than one of two is 2.5 % likely, 1 - p^2
        assert one["interval"] == pytest.approx([1 - 0.975**0.5, 0.975**0.5]) and "answers" not in one


def test_who_is_right_on_one_factor_alone_is_found_out() -> None:
    data = stream("affnist", split="test", digits="embedded")
    assert data.transform is not None
    found = by_factor(answers(data.transform[:, 0] > 0), data.transform)  # right if it was turned to the left
    assert [one["share"] for one in found["rotation"]] == [0, 0, 0, 0, 1, 1, 1, 1]
    for name in ("shear", "scale_x", "scale_y"):
        assert all(0.35 < one["share"] < 0.65 for one in found[name]), name


@pytest.mark.parametrize("name", ["rotation", "shear", "scale_x", "scale_y", "translation"])
def test_bins_hold_every_sample_as_a_loop_counts_them(name: str) -> None:
    data = stream("affnist", split="test", digits="embedded")
    correct = np.random.default_rng(0).random(len(data)) < 0.7
    assert data.transform is not None
    columns = {"rotation": [0], "shear": [1], "scale_y": [2], "scale_x": [3], "translation": [4, 5]}[name]
    edges = EDGES[name]
    counts = {low: [0, 0] for low in edges[:-1]}
    for row, right in zip(data.transform.tolist(), correct, strict=True):
        value = max(abs(row[column]) for column in columns) if name == "translation" else row[columns[0]]
        low = max([low for low in edges[:-1] if low <= value], default=edges[0])
        counts[low][0] += bool(right)
        counts[low][1] += 1
    found = by_factor(answers(correct), data.transform)[name]
    assert {one["low"]: [one["correct"], one["total"]] for one in found} == counts
    assert sum(one["total"] for one in found) == 1000


def test_near_takes_the_first_variant_that_is_not_moved_further() -> None:
    data = neutral()
    everything = data.batch(np.arange(len(data)))
    assert everything.transform is not None and everything.source is not None
    expected: dict[int, int] = {}
    for row, (source, map_) in enumerate(zip(everything.source.tolist(), everything.transform.tolist(), strict=True)):
        if max(abs(map_[4]), abs(map_[5])) <= 6:
            expected.setdefault(source, row)
    part = near(data, 6)
    assert part.rows.tolist() == [expected[source] for source in sorted(expected)]
    assert 0.5 < len(part) / 1000 < 1  # some have none, and are left out
    assert (part.batch(np.arange(3)).images == everything.images[part.rows[:3]]).all()
    assert (part.layers(np.arange(3))[:, 0] == everything.images[part.rows[:3]]).all()
    assert part.spec == data.spec


def test_near_draws_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = near(neutral(), 6).rows

    def refuse(*_: object) -> None:
        raise AssertionError("an image was drawn")

    data = neutral()
    monkeypatch.setattr(type(data.recipe.sampler), "batch", refuse)
    assert np.array_equal(near(data, 6).rows, expected)


def test_a_sampler_that_tells_no_transforms_draws_its_images() -> None:
    class Plain:
        def __init__(self, sampler: Any) -> None:
            self.batch = sampler.batch

    data = neutral()
    vars(data.recipe)["sampler"] = Plain(data.recipe.sampler)
    assert np.array_equal(near(data, 6).rows, near(neutral(), 6).rows)


class Knowing(torch.nn.Module):
    """Right on the images that it was told of; it counts what it is shown."""

    def __init__(self, *known: Stream) -> None:
        super().__init__()
        self.seen = 0
        self.known: dict[bytes, int] = {}
        for data in known:
            batch = data.batch(np.arange(len(data)))
            labels = [int(label) for label in batch.labels]
            self.known |= {image.tobytes(): label for image, label in zip(batch.images, labels, strict=True)}

    def forward(self, images: torch.Tensor) -> Output:
        self.seen += len(images)
        rows = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        labels = [self.known.get(np.ascontiguousarray(row).tobytes(), -1) for row in rows]
        scores = torch.tensor([[float(label == one) for one in range(10)] for label in labels])
        scores[:, 0] -= torch.tensor([float(label < 0) for label in labels])  # an unknown zero is missed, too
        return Output(scores=scores)


def test_each_value_is_judged_on_its_own_images_and_what_is_neutral_once() -> None:
    still, turned = neutral(variants=2), neutral(variants=2, rotation=50)
    model = Knowing(still)
    subject = NetworkSubject(model, {"still": lambda: near(still, 6), "turned": lambda: near(turned, 6)})
    names = {"rotation": {0.0: "still", 50.0: "turned"}, "shear": {0.0: "still"}}
    found = one_at_a_time(subject.predict, names)
    (at_rest, at_50), (same,) = found["rotation"], found["shear"]
    assert (at_rest["value"], at_rest["share"], at_50["value"]) == (0, 1, 50)
    assert at_50["share"] < 0.12  # of an unknown image the lowest class but zero is named
    assert same == at_rest
    assert model.seen == at_rest["total"] + at_50["total"]
    assert at_rest["total"] == len(near(still, 6))
