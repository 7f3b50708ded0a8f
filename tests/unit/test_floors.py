"""The house has floors: a module imports only from its own room and from floors below."""

import ast

import pytest

FLOORS = (
    {"arrays", "extras", "files", "logs", "provenance", "seeds", "segmentation"},
    {"config", "names", "registry"},
    {"datasets"},
    {"cdmam", "models"},
    {"metrics", "saliency"},
    {"concepts", "counterfactuals", "latent", "prototypes"},
    {"figures"},
    {"plan", "qc", "rates", "reader_study", "report", "storage", "tracking", "tracking_cdmam",
     "tracking_classification", "tracking_model", "tracking_ui"},
    {"cli", "compile"},
)  # fmt: skip
"""Rooms and single modules of the library, the ground floor first; docs/explanation/architecture.md describes them."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ON_ONE_FLOOR = {
    ("models", "cdmam"), ("config", "registry"), ("names", "registry"), ("rates", "plan"), ("storage", "plan"),
    ("tracking", "tracking_ui"), ("tracking_cdmam", "tracking"), ("tracking_classification", "tracking"),
}  # fmt: skip
"""Rooms that rest on a neighbour, and never the other way round."""
LOADED_LATER = {("saliency", "figures")}
"""`xiqa.saliency.show`, which is loaded when somebody asks for it."""


def imports(path, root) -> set[tuple[str, str]]:
    """(room of a module, room that it imports from)."""
    own = path.relative_to(root / "src/xiqa").parts[0].removesuffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xiqa":
            modules = [node.module] if node.module != "xiqa" else [f"xiqa.{alias.name}" for alias in node.names]
        else:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms = [module.split(".")[1] for module in modules if module.startswith("xiqa.")]
        found |= {(own, room) for room in rooms if room != own and not room.startswith("__")}
    return found


@pytest.fixture(scope="module")
def edges(root) -> set[tuple[str, str]]:
    paths = (root / "src/xiqa").rglob("*.py")
    return {edge for path in paths if path.parent != root / "src/xiqa" or path.stem != "__init__"
            for edge in imports(path, root)}  # fmt: skip


def test_every_room_has_its_floor(root):
    rooms = {
        path.stem for path in (root / "src/xiqa").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} == set(FLOOR_OF)


def test_a_module_imports_from_its_room_and_from_floors_below(edges):
    allowed = ON_ONE_FLOOR | LOADED_LATER
    assert {(a, b) for a, b in edges if FLOOR_OF[b] >= FLOOR_OF[a]} == allowed
    assert not {(b, a) for a, b in ON_ONE_FLOOR} & edges


def test_the_library_knows_nothing_of_the_workflow(root):
    for path in (root / "src/xiqa").rglob("*.py"):
        assert "import snakemake" not in path.read_text(), path
