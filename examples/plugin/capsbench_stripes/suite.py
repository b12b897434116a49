"""The suite: trained on whole digits, tested behind stripes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from capsbench.bench import Preset
from capsbench.bench.cells import ExperimentSettings
from capsbench.evaluation.accuracy import accuracy
from capsbench.report.differences import Question
from capsbench.report.groups import by_network
from capsbench.report.headlines import Headline, share
from capsbench.report.numbers import few_seeds_note, percent
from capsbench.report.tables import Table
from capsbench.results.result import Result

if TYPE_CHECKING:
    from capsbench.bench.bench import Bench
    from capsbench.bench.data import CellData
    from capsbench.evaluation.subjects import Subject, Tests

MOVED, STILL = {"size": 28, "shift": 2}, {"size": 28, "shift": 0}


@dataclass(frozen=True, kw_only=True)
class StripesSettings(ExperimentSettings):
    """The protocol: how networks are trained, and behind how many stripes they are tested."""

    of_tests: ClassVar[Sequence[str]] = ("variants", "stripes")  # no weight depends on them: they train nothing again

    stripes: tuple[int, ...] = (0, 3, 6)


class Stripes:
    """Trained on whole digits, tested behind black stripes."""

    version: ClassVar[int] = 1  # raise it when figures may change
    models: ClassVar[Sequence[str]] = ("one-layer",)
    image_size: ClassVar[int] = 28
    presets: ClassVar[Mapping[str, Preset]] = {
        "smoke": Preset(StripesSettings(epochs=1), {}),
        "small": Preset(StripesSettings(epochs=20), {}),
    }
    headlines: ClassVar[Sequence[Headline]] = (
        Headline(
            name="3 stripes",
            unit="%",
            measure=lambda cell: share(cell.metrics["checkpoints"]["best"].get("3 stripes")),
            question=Question(("checkpoints", "best", "3 stripes")),
        ),
    )

    def run(self, bench: "Bench") -> dict[str, Any]:
        """Trains the cell's network and tests it; the metrics of the cell."""
        epochs, seed = bench.cell.settings.epochs, bench.cell.settings.data_seed
        training = bench.stream("training", "padded", "train", seed=seed, variants=epochs, parameters=MOVED)
        validation = bench.file("validation", "padded", "validation", seed=seed, parameters=STILL)
        tests = self.tests(bench)
        model = bench.model(self.image_size)
        trained = bench.train(model, training, validation)
        subject = bench.subject(model, tests)
        return {
            "parameters": bench.count_parameters(model),
            "checkpoints": bench.each_checkpoint(model, trained, ["best"], lambda _: measured(tests, subject)),
            **trained.metrics(),
        }

    def tests(self, bench: "CellData") -> "Tests":
        """What a network is tested on: for `capsbench tests`, and for `run`."""
        settings = bench.cell.settings
        streams = {
            f"{number} stripes": bench.stream(
                f"{number} stripes", "striped", "test", seed=settings.data_seed, parameters={"stripes": number}
            )
            for number in settings.stripes
        }
        return {name: stream.fresh for name, stream in streams.items()}

    def judge(self, bench: "CellData", tests: "Tests", subject: "Subject") -> dict[str, Any]:
        """The metrics of scores that come from elsewhere."""
        return {"checkpoints": {"best": measured(tests, subject)}}

    def table(self, results: Sequence[Result]) -> Table:
        """One row for each network: means over seeds."""
        names = [f"{number} stripes" for number in results[0].settings["stripes"]]
        rows = []
        for network, cells in by_network(results).items():
            points = [cell.metrics["checkpoints"]["best"] for cell in cells]
            rows.append([network, len(cells), *(percent([point[name] for point in points]) for name in names)])
        notes = ["Accuracy in %, best checkpoint by validation.", *few_seeds_note(results)]
        return Table(headers=["network", "seeds", *names], rows=rows, notes=notes)


def measured(tests: "Tests", subject: "Subject") -> dict[str, Any]:
    """The accuracy behind so many stripes."""
    return {name: accuracy(subject.predict(name)).to_dict() for name in tests}
