"""What is published is known by its root digest, and nothing else is."""

import capsbench
from capsbench.files.published import digests, recognise


def test_a_named_set_is_recognised_by_its_digest() -> None:
    stream = capsbench.stream("multimnist", split="test", preset="release", digits="embedded")
    assert recognise(stream.digest) == "multimnist release/test of the embedded digits, seed 0"


def test_full_mnist_is_told_apart() -> None:
    assert recognise(digests()["mnist"]["affnist/train"]) == "affnist/train of full MNIST, seed 0"


def test_another_seed_is_no_named_set() -> None:
    assert recognise(capsbench.stream("multimnist", split="test", seed=1, digits="embedded").digest) is None


def test_no_two_named_sets_share_a_digest() -> None:
    found = [digest for table in digests().values() for digest in table.values()]
    assert len(set(found)) == len(found) == 2 * 9 * 4  # of two sources of digits, nine sets, four splits
