"""The words an error's sentence quotes can be carried by any answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.errors import nearest_name, printable


@given(st.text(st.characters(codec=None), max_size=200))
def test_printable_fits_any_answer(text):
    assert len(printable(text)) == min(len(text), 60)
    assert printable(text).encode().decode() == printable(text)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("portait", "portrait"), ("Portrait", "portrait"), ("\ud800it", "portrait"), ("q" * 900, "q?")],
)
def test_nearest_name_is_a_known_one_made_printable(name, nearest):
    assert nearest_name(name, iter(("portrait", "q\udcff"))) == nearest
