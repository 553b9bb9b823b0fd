"""A Stable Diffusion 1.x model as a library, the part that big hosts take from ldm and k-diffusion: checkpoint, noise levels, solvers."""
