"""The bench's own script in the embedded host, in place of the product's: a request's argument is its Plan.

The host loads this file as an extension; nothing else imports it.
"""

from modules import scripts

from bench.painter import TITLE
from lib_beyondfacial.hosts import request


class PlanScript(scripts.Script):
    """Hands the Plan to the host adapter; without one the request is plain."""

    def title(self):
        return TITLE

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        import gradio as gr

        return [gr.State()]

    def process(self, p, plan):
        if plan is None:
            return
        try:
            request.begin(p, plan)
        except Exception as error:  # the host would swallow it and make a plain picture
            request.fail(p, f"{type(error).__name__}: {error}")

    def process_before_every_sampling(self, p, plan, **kwargs):
        request.before_sampling(p, kwargs.get("noise"))

    def postprocess_batch(self, p, plan, **kwargs):
        request.finish_batch(p, kwargs.get("images"))

    def postprocess(self, p, processed, plan):
        request.end(p)


request.install_callbacks()
