"""The tutorials: `make docs` shows each notebook as it was run, and `make tutorials` runs them again."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

FOLDER = Path(__file__).parent / "tutorials"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put a page in the place of each notebook; called by mkdocs."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page = as_markdown(nbformat.read(file.abs_src_path, as_version=4))
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to a notebook, right for who reads the sources, lead to its page; called by mkdocs."""
    return markdown.replace(".ipynb)", ".md)")


def as_markdown(notebook: nbformat.NotebookNode) -> str:
    """Cells one after the other, each code cell with what it gave."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```python\n{cell.source}\n```", *map(_output, cell.outputs)]
    return "\n\n".join(parts) + "\n"


def _output(output: nbformat.NotebookNode) -> str:
    """What a cell gave, in the richest form that it has."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="What the cell above draws">'
    if "text/markdown" in data:
        return data["text/markdown"]
    if "text/html" in data:
        return "\n".join(line for line in data["text/html"].splitlines() if line.strip())
    return f"```text\n{output.get('text', data.get('text/plain', '')).rstrip()}\n```"


def run(path: Path) -> None:
    """Run a notebook in an empty folder, and keep what it shows."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": folder}})
        client.execute()
    # Which Python ran it is of no interest, and would change the file each time.
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        run(FOLDER / f"{name}.ipynb")
