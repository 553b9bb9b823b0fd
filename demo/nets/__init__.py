"""Networks of a Stable Diffusion 1.x checkpoint, in its own key names, for the embedded host and Dollhouse."""
