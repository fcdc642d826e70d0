"""The notebooks in demos/ run from top to bottom, and show what they printed."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DEMOS = Path(__file__).parent.parent / "demos"
NOTEBOOKS = sorted(DEMOS.glob("*.ipynb"))
SAID = {
    "blitz_neural_networks": [
        "(fc1): Linear(in_features=576, out_features=120, bias=True)",
        "after view   (1, 576)",
        "10\ntorch.Size([6, 1, 3, 3])",
        "<AddmmBackward object at",
        "<AccumulateGrad object at",
        "MseLossBackward -> AddmmBackward -> ReluBackward",
        "tensor([0., 0., 0., 0., 0., 0.])",
        "together                      81194",
    ],
    "from_scalar_to_tensor": [
        "11.0",
        "12.0 12.0 6.0",
        "[12.0, 3.0] [12.0, -6.0] [6.0, 6.0]",
        "[9.0, 12.0] [9.0, 12.0]",
    ],
}


def text(notebook):
    """What each code cell of a notebook printed."""
    return ["".join(o.get("text", "") for o in c.outputs) for c in notebook.cells if c.cell_type == "code"]


def without_numbers(printed):
    """The same without what differs between machines: addresses, and digits after the point."""
    return re.sub(r"0x[0-9a-f]+|-?\d+\.\d*(e[-+]\d+)?%?", "#", re.sub(r"(?<=[\[ ]) +", "", printed))


def test_both_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == list(SAID)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")
def test_a_notebook_runs_and_prints_what_it_shows(path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(DEMOS.parent)}}
    ).execute()
    printed = text(fresh)
    for words in SAID[path.stem]:
        assert any(words in one for one in printed), words
    for shown, said in zip(text(stored), printed, strict=True):
        assert without_numbers(shown) == without_numbers(said)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_carries_nothing_of_the_machine_it_was_written_on(path):
    stored = nbformat.read(path, as_version=4)
    assert stored.metadata.kernelspec.name == "python3"
    for cell in stored.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert {output.output_type for output in cell.outputs} <= {"stream"}
            assert {output.name for output in cell.outputs} <= {"stdout"}
    assert "/home/" not in path.read_text(encoding="utf-8")
