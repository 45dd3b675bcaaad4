"""No test is skipped without a reason, which a run lists at its end."""

from pathlib import Path

pytest_plugins = ["pytester"]

TESTS = """
import pytest

def test_with_a_reason():
    pytest.skip("no GPU here")

@pytest.mark.skip(reason="too long")
def test_marked_with_a_reason():
    raise AssertionError

@pytest.mark.skipif(True, reason="no bash")
def test_conditional():
    raise AssertionError

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    raise AssertionError
"""
SILENT = """
import pytest

def test_silent():
    pytest.skip()

@pytest.mark.skip
def test_marked():
    raise AssertionError

@pytest.mark.skip(reason="")
def test_marked_with_nothing():
    raise AssertionError
"""


def outcomes(pytester, text):
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(text)
    return pytester.runpytest("-rs", "-p", "no:cacheprovider")


def test_reasons_are_listed(pytester):
    result = outcomes(pytester, TESTS)
    result.assert_outcomes(skipped=3, xfailed=1)
    result.stdout.fnmatch_lines(["SKIPPED*no GPU here", "SKIPPED*too long", "SKIPPED*no bash"])


def test_silence_fails(pytester):
    result = outcomes(pytester, SILENT)
    # What a mark skips is skipped in set-up, where pytest calls a failure an error.
    result.assert_outcomes(failed=1, errors=2)
    result.stdout.fnmatch_lines(["*was skipped without saying why*"])
