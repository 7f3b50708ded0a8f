"""Pages of the tutorials: `make docs` shows each notebook as it was run, text, code, tables and pictures."""

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put a page in the place of each notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        page = as_markdown(nbformat.read(file.abs_src_path, as_version=4))
        files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=page))
    return files


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
