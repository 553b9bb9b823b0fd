"""Names of saved identities: what every file system takes as one plain file, and nothing that leads elsewhere."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces.names import check_name, is_name, same_name


@pytest.mark.parametrize(
    "name",
    [
        "Anna",
        "anna 2",
        "Änne-Marie O'Neil",
        "李小龙",
        "a",
        "x" * 64,
        "J. R. Smith (2019)",
        "conny",
        "com10",
        "nul-1",
        "#1",
        "می\u200cروم",  # a joiner that Persian needs
        "श्री\u200dमान",
        "Zoë \U0001f600",
    ],
)
def test_names_that_are_taken(name):
    assert check_name(name) == name
    assert is_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("x" * 65, "too long"),
        ("李" * 64 + "李", "too long"),
        ("𝔸" * 60, "too long"),
        ("../anna", "holds one of"),
        ("..\\anna", "holds one of"),
        ("a/b", "holds one of"),
        ("/etc/passwd", "holds one of"),
        ("C:anna", "holds one of"),
        ("anna*", "holds one of"),
        ("who?", "holds one of"),
        ('"anna"', "holds one of"),
        ("<b>", "holds one of"),
        ("a|b", "holds one of"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\u202eb", "control"),  # turns what follows round
        ("a\u200bb", "control"),  # has no width
        ("a\u200fb", "control"),
        ("a\u2066b", "control"),
        ("a\ufeffb", "control"),
        ("\u200cab", "control"),  # joiners join nothing here
        ("ab\u200d", "control"),
        ("a\u200c\u200cb", "control"),
        ("a\u200d1", "control"),
        ("\u3000", "begins or ends"),
        ("a\u2028b", "control"),
        ("a\ud800", "control"),
        (".", "begins or ends"),
        ("..", "begins or ends"),
        (".hidden", "begins or ends"),
        ("anna.", "begins or ends"),
        ("anna ", "begins or ends"),
        (" anna", "begins or ends"),
        ("CON", "Windows"),
        ("nul", "Windows"),
        ("aux.txt", "Windows"),
        ("Com1", "Windows"),
        ("lpt9.x.y", "Windows"),
        ("COM²", "Windows"),
        ("con .x", "Windows"),
        ("CONIN$", "Windows"),
    ],
)
def test_names_that_are_refused(name, reason):
    assert not is_name(name)
    with pytest.raises(BeyondFacialError, match=reason) as caught:
        check_name(name)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 250


@pytest.mark.parametrize("name", [None, 3, ["a"], {"a": 1}, b"anna"])
def test_what_is_no_text_is_refused(name):
    with pytest.raises(BeyondFacialError, match="it is no text"):
        check_name(name)


def test_spaces_of_all_kinds_are_plain_ones():
    for space in ("\u00a0", "\u3000", "\u2003", "\u202f"):
        assert check_name(f"Anna{space}2") == "Anna 2"
        assert not is_name(f"Anna{space}2")
    assert same_name("می\u200cروم") == same_name("میروم")  # to the eye


def test_equal_spellings_are_one_name():
    spelt = unicodedata.normalize("NFD", "Änne")
    assert spelt != "Änne"
    assert check_name(spelt) == "Änne"
    assert not is_name(spelt)
    assert len({same_name(name) for name in ("Änne", spelt, "änne", "ÄNNE")}) == 1
    assert same_name("Strasse") == same_name("STRASSE") == same_name("Straße")


@given(st.text(max_size=80))
def test_whatever_is_taken_is_one_plain_file_name(name):
    try:
        taken = check_name(name)
    except BeyondFacialError as error:
        expected = str(error)
        assert expected.isprintable()
        return
    file = f"{taken}.safetensors"
    folder = Path("/somewhere")
    assert (folder / file).parent == folder
    assert PureWindowsPath("C:/x", file).name == file
    assert not PureWindowsPath(file).drive
    assert len(file.encode()) <= 255
    assert check_name(taken) == taken
