from tests.webui.conftest import host, models_dir, other_photo, photo

__all__ = ["host", "models_dir", "other_photo", "photo"]
