"""Each setting is in every place that follows from its declaration: page, schema, infotext, X/Y/Z, docs/api.md."""

from __future__ import annotations

import gradio as gr
import pytest

from lib_beyondfacial.settings import FIELDS, PAGE_PERSON_FIELDS, UI_FIELDS, Settings
from lib_beyondfacial.webui import ui
from lib_beyondfacial.webui.cells import AXES
from lib_beyondfacial.webui.infotext import PASTED_FIELDS, paste_key
from tests.api_table import DOCUMENT, settings_table, table_in

OTHER_TEXTS = {"identity": "Anna"}
IDS = {"enabled": "beyondfacial_txt2img-checkbox"}  # of the host's accordion that is a checkbox, too


@pytest.fixture(scope="module")
def page(host):
    with gr.Blocks():
        return ui.build(is_img2img=False)


def other_value(field):
    """A valid value that is not the default."""
    if field.kind == "bool":
        return not field.default
    if field.kind == "choice":
        return next(choice for choice in field.choices if choice != field.default)
    if field.kind in ("float", "int"):
        middle = (field.minimum + field.maximum) / 2
        return type(field.default)(middle if middle != field.default else field.maximum / 4)
    return OTHER_TEXTS.get(field.key, "words")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
def test_each_setting_is_everywhere(field, page):
    described = Settings.json_schema()["properties"][field.key]
    assert (described["title"], described["description"]) == (field.label, field.help)
    is_on_page = field.kind not in ("embedding", "persons")
    assert is_on_page == (field in UI_FIELDS)
    if is_on_page:
        component = page.components[UI_FIELDS.index(field)]
        assert component.elem_id == IDS.get(field.key, f"beyondfacial_txt2img_{field.key}")
    assert field.is_biometric != (field in PASTED_FIELDS)
    assert (field.infotext in page.paste_field_names) == (field in PASTED_FIELDS)
    assert field.axis == (field.key in AXES)
    assert f"| `{field.key}` | {field.describe_range()} |" in table_in(DOCUMENT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("field", PAGE_PERSON_FIELDS, ids=lambda field: field.key)
def test_two_persons_stand_behind_all_else(field, page):
    component = page.components[len(UI_FIELDS) + PAGE_PERSON_FIELDS.index(field)]
    assert component.elem_id == f"beyondfacial_txt2img_{field.key}"


@pytest.mark.parametrize("field", [f for f in PASTED_FIELDS if f in UI_FIELDS], ids=lambda field: field.key)
def test_each_setting_comes_back_from_an_infotext(field):
    value = other_value(field)
    more = {"identity_in_infotext": True} if field.key == "identity" else {}
    more |= {"stop": 1.0} if field.key == "start" else {}
    parameters = Settings(**{"enabled": True, field.key: value, **more}).to_infotext() | {
        "BeyondFacial enabled": "True"
    }
    assert field.infotext in parameters
    assert paste_key(field)(parameters) == (True if field.key == "enabled" else value)


def test_an_infotext_holds_what_differs():
    assert Settings(enabled=True).to_infotext() == {"BeyondFacial enabled": "True"}
    assert Settings(enabled=True, references=("AAAA",), weight=0.5, show_mask=True).to_infotext() == {
        "BeyondFacial enabled": "True",
        "BeyondFacial weight": "0.5",
        "BeyondFacial show mask": "True",
    }


def test_the_documents_table_is_the_declarations():
    assert table_in(DOCUMENT.read_text(encoding="utf-8")) == settings_table(), "run python -m tests.api_table"
