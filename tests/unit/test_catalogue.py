"""What there is can be listed, completed and checked by tools."""

import ast
import subprocess
import sys
from importlib.resources import files

import pytest

import xiqa.saliency
from xiqa.registry import FALLING, METHODS
from xiqa.saliency.catalogue import methods, options


def test_methods_are_listed_with_what_they_say():
    table = methods()
    assert table["method"].tolist() == list(METHODS)
    assert table["what"].str.len().gt(10).all()
    assert set(table.loc[table["falls"], "method"]) == FALLING & set(METHODS)
    at_layers = set(table.loc[table["at_layers"], "method"])
    assert {"grad_cam", "normgrad_conv1x1_multi", "guided_grad_cam", "score_cam"} <= at_layers
    assert not {"gradient", "guided_backprop", "deconvolution", "occlusion", "edges"} & at_layers


@pytest.mark.parametrize("method", list(METHODS))
def test_options_are_listed_with_their_defaults(method):
    table = options(method).set_index("option")
    assert set(table.index[table["of_all_methods"]]) == {
        "memory_gb", "reduce_channels", "reshape", "smooth_samples", "smooth_noise_level",
    }  # fmt: skip
    assert table.index.is_unique
    if method == "integrated_gradients":
        assert table.loc["steps", "default"] == 25
    if method == "expected_gradients":
        assert table.loc["references", "default"] == "required"
    with pytest.raises(ValueError, match=r"found 'occlsion'.*did you mean occlusion"):
        options("occlsion")


def test_completion_and_type_checkers_see_what_is_loaded_late():
    source = ast.parse(files("xiqa.saliency").joinpath("__init__.py").read_text())
    named = {
        alias.name
        for node in ast.walk(source) if isinstance(node, ast.If)
        for part in node.body if isinstance(part, ast.ImportFrom)
        for alias in part.names
    }  # fmt: skip
    assert named == set(xiqa.saliency.__all__) <= set(dir(xiqa.saliency))
    assert all(callable(getattr(xiqa.saliency, name)) for name in xiqa.saliency.__all__)
    assert files("xiqa").joinpath("py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'atribute'"):
        xiqa.saliency.atribute  # noqa: B018


def test_listing_what_there_is_loads_no_torch():
    code = "import sys, xiqa.saliency; dir(xiqa.saliency); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
