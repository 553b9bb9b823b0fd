"""UNets with ldm's or diffusers' names: their attention sites, the head probe, and injections."""
