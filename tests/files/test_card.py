"""The Croissant description and the data card of a file."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from capsbench.cli import cli
from capsbench.files.card import CONTEXT
from capsbench.files.generation import generate
from capsbench.version import VERSION

ROOT = Path(__file__).parents[2]
NEEDED = (
    "@context",
    "@type",
    "conformsTo",
    "name",
    "description",
    "license",
    "datePublished",
    "creator",
    "distribution",
)
RESPONSIBLE = ("dataCollection", "dataLimitations", "dataBiases", "personalSensitiveInformation", "dataUseCases")


@pytest.mark.parametrize("name", ["padded", "affnist", "multimnist", "crowded", "cluttered"])
def test_a_file_is_described_with_its_hash(name: str, tmp_path: Path) -> None:
    (path,) = generate(name, out=tmp_path, split="test", count=50, digits="embedded")
    run = CliRunner().invoke(cli, ["card", str(path), "--url", "https://example.org/data/"])
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / f"{name}-test.croissant.json").read_text())
    assert all(content[key] for key in (*NEEDED, "url", *(f"rai:{key}" for key in RESPONSIBLE)))
    (file,) = content["distribution"]
    assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file["contentUrl"] == f"https://example.org/data/{name}-test.h5" and file["@id"] == f"{name}-test.h5"
    assert file["contentSize"] == f"{path.stat().st_size} B" and file["encodingFormat"] == "application/x-hdf5"
    # every word is schema.org's, or of a vocabulary that the context names
    prefixes = {key.partition(":")[0] for part in (content, file) for key in part if ":" in key}
    assert prefixes <= set(CONTEXT)
    card = (tmp_path / f"{name}-test.card.md").read_text()
    assert file["sha256"] in card and "| `/images` | [50, " in card and "CC BY-SA 3.0" in card
    counts = re.search(r"\| 0 \| 1 .*\n.*\n\| (.*) \|", card)
    assert counts and sum(map(int, counts[1].split(" | "))) == (100 if name == "multimnist" else 50)


def test_cards_go_where_the_user_wants_and_a_file_that_is_none_gets_a_line(tmp_path: Path) -> None:
    (path,) = generate("padded", out=tmp_path, split="test", count=5, digits="embedded")
    assert CliRunner().invoke(cli, ["card", str(path), "--out", str(tmp_path / "cards")]).exit_code == 0
    assert "url" not in json.loads((tmp_path / "cards" / "padded-test.croissant.json").read_text())
    (tmp_path / "no.h5").write_bytes(b"nothing")
    assert CliRunner().invoke(cli, ["card", str(tmp_path / "no.h5")]).exception is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of rdflib, which mlcroissant reads with
@pytest.mark.parametrize(("name", "url"), [("affnist", ""), ("multimnist", "https://example.org/data")])
def test_mlcroissant_has_no_complaint(name: str, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="needs mlcroissant: pip install capsbench[dev]")
    (path,) = generate(name, out=tmp_path, split="test", count=5, digits="embedded")
    assert CliRunner().invoke(cli, ["card", str(path), *(["--url", url] if url else [])]).exit_code == 0
    found = croissant.Dataset(jsonld=str(path.with_suffix(".croissant.json"))).metadata
    assert not found.ctx.issues.errors and not found.ctx.issues.warnings
    assert not caplog.records  # it logs what is not standard
    (file,) = found.distribution
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and found.name == path.stem


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {VERSION}\n" in text and text.startswith("cff-version: 1.2.0\n")
