"""UNets with ldm's or diffusers' names: their attention sites, the head probe that reads these, what lines inject."""
