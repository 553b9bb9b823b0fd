"""The web application: the API's routes, the extensions' routes and, if wanted, the page."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from . import script_callbacks
from .api import Api
from .page import create_page, mount_page


def build_app(page: bool) -> tuple[FastAPI, Api, Any]:
    """The application with the extensions' routes on it and, if wanted, the page at /."""
    app = FastAPI()
    script_callbacks.ui_settings_callback()
    script_callbacks.before_ui_callback()
    demo = create_page()
    api = Api(app)
    script_callbacks.app_started_callback(demo if page else None, app)
    if page:
        mount_page(app, demo)
    return app, api, demo if page else None
