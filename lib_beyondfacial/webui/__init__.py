"""UI and API of the extension: the only package that imports gradio and fastapi."""
