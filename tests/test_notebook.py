"""The example notebook runs, is quiet, small, and shows what the code gives today."""

import asyncio
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "first_light.ipynb"
REGENERATE = "the saved outputs are old: run the command in the notebook's first cell"


@pytest.fixture(scope="module")
def saved() -> Any:
    """Return the notebook as it is in the repository."""
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the notebook after running it in an empty folder; an error in a cell raises."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("NUMBA_NUM_THREADS", "2")
        folder = tmp_path_factory.mktemp("notebook")
        client = NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        asyncio.run(client.async_execute())
        assert not list(folder.iterdir()), "the notebook leaves files behind"
    return notebook


def outputs(notebook: Any) -> list[Any]:
    """Return all outputs of all cells."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def numbers(notebook: Any) -> list[str]:
    """Return the printed lines and tables."""
    text = "".join(o["text"] for o in outputs(notebook) if o.output_type == "stream")  # pieces come as time has it
    return text.splitlines() + [o["data"]["text/html"] for o in outputs(notebook) if "text/html" in o.get("data", {})]


def test_the_notebook_runs_without_a_word_on_stderr(executed: Any) -> None:
    assert [o["text"] for o in outputs(executed) if o.get("name") == "stderr"] == []


def test_its_saved_tables_are_those_of_today(executed: Any, saved: Any) -> None:
    assert numbers(saved), "no output is saved"
    assert numbers(saved) == numbers(executed), REGENERATE


def test_it_was_saved_after_one_run_from_top_to_bottom(saved: Any) -> None:
    counts = [cell.execution_count for cell in saved.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_it_shows_pictures_figures_and_a_table(saved: Any) -> None:
    kinds = [kind for output in outputs(saved) for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 2
    assert kinds.count("application/vnd.plotly.v1+json") >= 3
    assert "text/html" in kinds


def test_starfm_beats_copying_on_the_sample(saved: Any) -> None:
    table = next(text for text in numbers(saved) if "RMSE" in text)
    row = re.search(r"<td>RMSE</td>(.*?)</tr>", table)
    assert row is not None
    nearest, _, starfm = (float(value) for value in re.findall(r"(\d\.\d{4})", row.group(1)))
    assert starfm < nearest


def test_it_is_small_and_names_no_place_of_the_machine_that_made_it(saved: Any) -> None:
    assert NOTEBOOK.stat().st_size < 500_000
    text = nbformat.writes(saved)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|opt)/", text)
    assert "<script" not in text
