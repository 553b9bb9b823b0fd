"""No name uses a word of tests/words.txt: each is a word of a private dialect and has a plain replacement."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("lib_beyondfacial", "scripts", "demo", "bench", "tests", "javascript")
WORDS = Path(__file__).with_name("words.txt")
NAME_OF_NODE = {
    ast.Name: "id",
    ast.Attribute: "attr",
    ast.arg: "arg",
    ast.keyword: "arg",
    ast.alias: "asname",
    ast.FunctionDef: "name",
    ast.AsyncFunctionDef: "name",
    ast.ClassDef: "name",
    ast.ExceptHandler: "name",
}
KEY = re.compile(r"[a-z]+(?:_[a-z]+)+")  # a string that looks like a setting's key, such as "refine_head"
JS_TEXT = re.compile(r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)

Words = dict[str, str]


def read_words(text: str) -> Words:
    """Word -> replacement; a word that counts only as a whole name begins with "="."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {word: replacement.strip() for word, _, replacement in (line.partition(" ") for line in lines)}


def parts_of(name: str) -> tuple[str, ...]:
    """The words of a name in snake_case or camelCase: "takeLook" and "take_look" are ("take", "look")."""
    return tuple(part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))


def forbidden_in(name: str, words: Words) -> str | None:
    """The word of the list that a name uses; None where it uses none."""
    parts = parts_of(name)
    if f"={'_'.join(parts)}" in words:
        return f"={'_'.join(parts)}"
    spans = ("_".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1))
    return next((span for span in spans if span in words), None)


def names_in_python(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every name, attribute, argument, function and class, and of strings that look like keys."""
    for node in ast.walk(ast.parse(source)):
        name = getattr(node, NAME_OF_NODE[type(node)]) if type(node) in NAME_OF_NODE else None
        if name:
            yield getattr(node, "lineno", 1), name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
            yield node.lineno, node.value


def names_in_javascript(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every identifier outside comments and quoted strings."""
    code = JS_TEXT.sub(lambda text: "\n" * text[0].count("\n"), source)
    for number, line in enumerate(code.splitlines(), 1):
        for name in re.findall(r"[A-Za-z_$][\w$]*", line):
            yield number, name


def findings(path: str, source: str, words: Words) -> list[str]:
    """One sentence for each name that uses a word of the list."""
    names = [(1, Path(path).stem)]
    names += names_in_python(source) if path.endswith(".py") else names_in_javascript(source)
    found = {(line, name, word) for line, name in names if (word := forbidden_in(name, words))}
    return [
        f'{path}:{line}: "{name}" uses "{word.lstrip("=")}"; use instead: {words[word]}'
        for line, name, word in sorted(found)
    ]


def test_no_name_uses_a_word_of_the_list():
    words = read_words(WORDS.read_text(encoding="utf-8"))
    files = [path for folder in FOLDERS for kind in ("*.py", "*.js") for path in (ROOT / folder).rglob(kind)]
    assert len(files) > 200
    found = [
        line
        for path in sorted(files)
        for line in findings(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"), words)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.py", "x = 1\ndef show_complaint(): pass"),
        ("a.py", "x = 1\nrow.complaint = 2"),
        ("a.py", "x = 1\nf(complaint=2)"),
        ("a.py", "x = 1\nf'{complaint}'"),
        ("a.py", "x = 1\nclass ComplaintBox: pass"),
        ("a.py", "x = 1\nd['last_complaint']"),
        ("a.js", "// a complaint\nconst lastComplaint = 1;"),
    ],
)
def test_a_planted_word_is_found_with_its_line_and_replacement(path, source):
    (sentence,) = findings(path, source, {"complaint": "error_html"})
    assert sentence.startswith(f"{path}:2: ")
    assert sentence.endswith("use instead: error_html")


def test_a_file_may_not_be_called_by_a_word_of_the_list():
    assert findings("complaint.js", "", {"complaint": "error_html"})


@pytest.mark.parametrize(
    ("name", "is_found"),
    [("a_b", True), ("aB", True), ("c_a_b", True), ("d", True), ("d_c", False), ("a_c_b", False)],
)
def test_words_count_as_parts_or_as_whole_names(name, is_found):
    assert (forbidden_in(name, {"a_b": "", "=d": ""}) is not None) == is_found


def test_comments_sentences_and_strings_are_free():
    assert findings("a.py", '"""A complaint."""\nx = "complaint"  # complaint', {"complaint": ""}) == []
    assert findings("a.js", '/* a\ncomplaint */ const x = "complaint";', {"complaint": ""}) == []
