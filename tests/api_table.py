"""The table of all settings in docs/api.md: `python -m tests.api_table` writes it anew, a test compares."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lib_beyondfacial.settings import FIELDS
from lib_beyondfacial.settings.fields import Field

DOCUMENT = Path(__file__).parents[1] / "docs/api.md"
BEGIN, END = "<!-- settings: made by tests/api_table.py -->\n", "<!-- end of settings -->\n"
HEAD = "| key | value | default | X/Y/Z | what it does |\n|---|---|---|---|---|\n"
ENABLED = "`false`; in an object that is not empty `true`"


def settings_table() -> str:
    """One row a setting."""
    return HEAD + "".join(map(row_of, FIELDS))


def row_of(field: Field) -> str:
    axis = "yes" if field.axis else ""
    values, default = field.describe_range(), json.dumps(field.default)
    shown = ENABLED if field.key == "enabled" else f"`{default}`"
    return f"| `{field.key}` | {values} | {shown} | {axis} | {field.label}. {field.help} |\n"


def table_in(text: str) -> str:
    """The table that a document has."""
    found = re.search(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", text, re.DOTALL)
    return found[1] if found else ""


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8")
    start, end = before.index(BEGIN) + len(BEGIN), before.index(END)
    DOCUMENT.write_text(before[:start] + settings_table() + before[end:], encoding="utf-8")
