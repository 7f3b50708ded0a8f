"""The page of what the papers print and what is ours, made from docs/reference/paper_settings.csv."""

import pandas as pd

from xiqa.report.pages import markdown

HEAD = """# What the papers print, and what is ours

Each paper has a study of its own, `config/paper_amanova_2022.yaml`, `paper_ozer.yaml`, `paper_brima_2023.yaml` and
`paper_brocki_2022.yaml`, which carries what its paper prints. [paper_settings.csv](paper_settings.csv) lists every
setting line by line: the section, what is printed, the key of the study or the place in the code that holds it, and
its value. A test compares each row with the studies, and each key of the studies with the rows. This page is made
from the same table. It lists what a study does not carry, with the reason, and every choice that we made where a
paper is silent.
"""
TITLES = {
    "Amanova 2022": "Amanova 2022 (OMIG), `paper_amanova_2022.yaml`",
    "Özer": "Özer (NormGrad), `paper_ozer.yaml`",
    "Brima 2023": "Brima 2023 (nine networks), `paper_brima_2023.yaml`",
    "Brocki 2022": "Brocki 2022 (contrast agent in CT), `paper_brocki_2022.yaml`",
    "all": "All of them",
}


def page(settings: pd.DataFrame) -> str:
    """The page as Markdown; settings: the table, all columns text."""
    parts = [HEAD]
    for paper, heading in TITLES.items():
        rows = settings[settings["paper"] == paper]
        parts.append(f"\n## {heading}\n")
        for status, title, columns in (
            ("not carried", "Printed, and not carried", ("section", "setting", "printed", "note")),
            ("ours", "Ours, where the paper is silent", ("setting", "value", "key", "note")),
        ):
            chosen = rows[rows["status"] == status]
            if len(chosen):
                parts.append(f"\n**{title}**\n\n{_table(chosen, columns)}")
    return "".join(parts)


def _table(rows: pd.DataFrame, columns: tuple[str, ...]) -> str:
    names = {"note": "reason" if "printed" in columns else "remark"}
    code = {name: rows[name].map(lambda cell: f"`{cell}`" if cell else "") for name in ("key", "value")}
    table = rows.assign(**code)[list(columns)]
    return markdown(table.set_axis([names.get(name, name).capitalize() for name in columns], axis=1)) + "\n"
