"""The always-on script "BeyondFacial": passes the host's callbacks on to lib_beyondfacial.

All imports are at load time, because hosts have the extension's folder on sys.path only while they load this file.
"""

import sys
from pathlib import Path

from modules import script_callbacks, scripts

LIBRARY = "lib_beyondfacial"


def forget_older_library(folder):
    """Remove the library from sys.modules if its files have changed, because "Reload UI" loads only this file again.

    folder: the folder of its files. If no file differs, the loaded library and its caches are kept.
    """
    files = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*.py"))}
    loaded = sys.modules.get(LIBRARY)
    if loaded is not None and getattr(loaded, "loaded_files", files) != files:
        for name in [name for name in sys.modules if name == LIBRARY or name.startswith(f"{LIBRARY}.")]:
            del sys.modules[name]
    return files


files = forget_older_library(Path(__file__).resolve().parents[1] / LIBRARY)

import lib_beyondfacial  # noqa: E402
from lib_beyondfacial.hosts import request  # noqa: E402
from lib_beyondfacial.webui import api, forwarding, host_routes, host_settings, run, ui, xyz  # noqa: E402

lib_beyondfacial.loaded_files = files
# The last callback of a picture, after other scripts' changes and after inpainting has pasted; hosts of 2024 lack it.
HAS_LAST_CALLBACK = hasattr(scripts.Script, "postprocess_image_after_composite")


class BeyondFacialScript(scripts.Script):
    """Has no state: the data of a request is on its `p`."""

    setup_for_ui_only = False

    def title(self):
        return "BeyondFacial"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        page = ui.build(is_img2img)
        self.infotext_fields = page.infotext_fields
        self.paste_field_names = page.paste_field_names
        return page.components

    def setup(self, p, *args):
        forwarding.prepare(p)

    def process(self, p, *args):
        run.begin(p, args)

    def process_before_every_sampling(self, p, *args, **kwargs):
        run.before_sampling(p, kwargs.get("noise"))

    def postprocess_batch(self, p, *args, **kwargs):
        run.finish_batch(p, kwargs.get("images"))

    def postprocess_image(self, p, pp, *args):
        if not HAS_LAST_CALLBACK:
            run.report_image(p, pp.image)

    def postprocess_image_after_composite(self, p, pp, *args):
        run.report_image(p, pp.image)

    def postprocess(self, p, processed, *args):
        run.finish(p, processed)


request.install_callbacks()
script_callbacks.on_before_ui(xyz.add_axes)
script_callbacks.on_ui_settings(host_settings.add_settings)
script_callbacks.on_app_started(api.mount)
script_callbacks.on_app_started(host_routes.mount)
script_callbacks.on_script_unloaded(run.unload)
