"""Fixtures of all system tests."""
import pytest

from certificates import Authority
from harness import Scratch


@pytest.fixture
def scratch():
    with Scratch() as made:
        yield made


@pytest.fixture
def ca(scratch):
    return Authority(scratch.path)
