"""Serves as `modules.ui_components`."""

from __future__ import annotations

from typing import Any

import gradio as gr

JS_ARGUMENT = "_js" if gr.__version__.startswith("3.") else "js"
if JS_ARGUMENT == "js":
    import gradio.component_meta

    gradio.component_meta.create_or_modify_pyi = lambda *_: None  # else gradio writes a .pyi file beside this one


class InputAccordion(gr.Checkbox):
    """An accordion that is an input: open is True. In truth a hidden checkbox, kept in step by page.js."""

    def __enter__(self) -> InputAccordion:
        self.accordion_id = self.elem_id or f"input-accordion-{self._id}"
        self.elem_id, self.visible = f"{self.accordion_id}-checkbox", False
        script = f'(checked) => inputAccordionChecked("{self.accordion_id}", checked)'
        self.change(fn=None, inputs=[self], **{JS_ARGUMENT: script})
        self.accordion = gr.Accordion(
            self.label, open=bool(self.value), elem_id=self.accordion_id, elem_classes=["input-accordion"]
        )
        self.accordion.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.accordion.__exit__(*exc_info)

    def get_block_name(self) -> str:
        return "checkbox"
