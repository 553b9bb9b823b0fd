"""The host's page and API: the only rooms that import gradio and fastapi."""
