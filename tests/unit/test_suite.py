"""The tests themselves: what lets several processes share them."""

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
