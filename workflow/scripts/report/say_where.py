"""Say where the results of a finished run are, and how long it took."""

import shlex
import sys
from pathlib import Path


def say_where(results: str, seconds: float) -> None:
    """Print the findings, how long the run took, where figures, tables and runs lie and which commands show them."""
    root = Path(results).resolve()
    ui = "make ui" if results == "results" else f"make ui RESULTS={shlex.quote(str(root))}"
    report = "make report" if results == "results" else "snakemake --configfile <yours> --report <a file .html>"
    pages = [page for chain in ("cdmam", "classification", ".") if (page := root / chain / "findings.md").exists()]
    for page in pages:
        # The tables below the sentences are for the page.
        lines = page.read_text(encoding="utf-8").replace("\n\n", "\n").splitlines()
        print("\n" + "\n".join(line for line in lines if not line.startswith(("|", "!["))) + "\n")
    for page in pages:
        print(f"Findings   {page}")
    for kind in ("figures", "tables"):
        names = ",".join(folder.parent.name for folder in sorted(root.glob(f"*/{kind}")))
        print(f"{kind.capitalize():<10} {root}/{{{names}}}/{kind}")
    print(f"MLflow UI  {ui} prints the addresses of the runs and opens them")
    print(f"This run   took {seconds / 60:.1f} minutes")
    print(f"Report     {report} builds one page of all figures\n")


if __name__ == "__main__":
    say_where(sys.argv[1], float(sys.argv[2]))
