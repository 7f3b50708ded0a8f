"""The page of the other families of explanations, docs/record/families.md: what each found in a run."""

import re
from pathlib import Path

KINDS = ("concepts", "latent", "counterfactuals", "prototypes")
"""Names of the pages of findings, in the order of this page."""


def page(folder: Path, commit: str, run: str) -> str:
    """The page as Markdown: the findings of each data set, without their pictures.

    Args:
        folder: results of the study.
        commit: commit that the study ran at.
        run: how long it took, and on what.

    Raises:
        ValueError: the study asked none of these families.
    """
    found = [path for kind in KINDS for path in sorted(folder.glob(f"*/{kind}.md"))]
    if not found:
        raise ValueError(
            f"{folder}: found no page of {', '.join(KINDS)}, expected some; ask for `concepts:` in the study"
        )
    head = f"""# Concepts, latent spaces, counterfactuals and prototypes, as found

What the families of explanations beside saliency maps found in one run ({run}) at commit `{commit}`.
`python -m xiqa.report families` made this page from the findings of that run; the reference pages say what each number
is.
"""
    return "\n".join([head, *(_findings(path.read_text(encoding="utf-8")) for path in found)])


def _findings(text: str) -> str:
    """A page of findings one heading deeper, without pictures."""
    text = re.sub(r"^!\[.*\n\n?", "", text, flags=re.MULTILINE)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)
