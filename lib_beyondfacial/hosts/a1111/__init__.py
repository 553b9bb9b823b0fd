"""AUTOMATIC1111's web UI: two denoiser callbacks, and a second model call for every identity line."""
