"""The tests themselves: what lets several processes share them; and what no tracked file says."""

import re
import subprocess

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("values", ["{'b', 'a'}", "frozenset('ab')", "argvalues={'b', 'a'} - {'c'}"])
def test_parameters_from_a_set_are_refused(pytester, root, values):
    done = collected(pytester, root, values)
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*test_any: parameters are a set, whose order changes; sort it*"])


@pytest.mark.parametrize("values", ["sorted({'b', 'a'})", "{'b': 1, 'a': 2}", "argvalues=['b', 'a']"])
def test_parameters_in_an_order_are_taken(pytester, root, values):
    collected(pytester, root, values).assert_outcomes(passed=2)


def collected(pytester, root, values):
    pytester.makeconftest((root / "tests/conftest.py").read_text())
    pytester.makepyfile(f"import pytest\n@pytest.mark.parametrize('name', {values})\ndef test_any(name): assert name")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider")


def test_papers_are_cited_by_author(root):
    """No "paper" with a number in place of its authors: no reader can look that up."""
    numbered = re.compile(rb"(?<![a-z])(papers?|review|methods|others)[\s_#]+00\d(?!\d)", re.IGNORECASE)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    if listed.returncode:
        pytest.skip("no git checkout: which files are tracked is unknown")
    files = [root / name.decode() for name in listed.stdout.split(b"\0") if name]
    found = {f"{file}: {hit[0]!r}" for file in files if file.is_file() for hit in numbered.finditer(file.read_bytes())}
    named = [str(file) for file in files if numbered.search(file.name.encode())]
    assert not found | set(named)
