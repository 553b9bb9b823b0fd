"""What the doubles of ControlNet's script have in common: the text of an extension up to its class's own methods."""

CONTROLNET_CLASS = """
import gradio as gr
from modules import scripts

class ControlNet(scripts.Script):
    latest_network = None
    current_params = {}

    def title(self):
        return "ControlNet"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(label=f"unit {n}", visible=False) for n in range(3)]
"""
