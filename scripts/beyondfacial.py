"""The always-on script "BeyondFacial": the host's callbacks, each handed on to lib_beyondfacial.

Everything is imported here, at load time: hosts keep the extension's folder on sys.path only while they load this
file.
"""

from modules import script_callbacks, scripts

from lib_beyondfacial.hosts import request
from lib_beyondfacial.webui import api, host_routes, run, ui

# The last callback of a picture, behind other scripts' changes and inpainting's composition; hosts of 2024 lack it.
HAS_LAST_CALLBACK = hasattr(scripts.Script, "postprocess_image_after_composite")


class BeyondFacialScript(scripts.Script):
    """Keeps no state of its own: what a request carries along lives on its `p`."""

    def title(self):
        return "BeyondFacial"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        page = ui.build(is_img2img)
        self.infotext_fields = page.infotext_fields
        self.paste_field_names = page.paste_field_names
        return page.components

    def process(self, p, *args):
        run.begin(p, args)

    def process_before_every_sampling(self, p, *args, **kwargs):
        run.before_sampling(p, kwargs.get("noise"))

    def postprocess_image(self, p, pp, *args):
        if not HAS_LAST_CALLBACK:
            run.report_image(p, pp.image)

    def postprocess_image_after_composite(self, p, pp, *args):
        run.report_image(p, pp.image)

    def postprocess(self, p, processed, *args):
        run.finish(p, processed)


request.install_callbacks()
script_callbacks.on_app_started(api.mount)
script_callbacks.on_app_started(host_routes.mount)
script_callbacks.on_script_unloaded(run.unload)
