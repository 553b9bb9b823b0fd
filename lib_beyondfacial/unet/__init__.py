"""UNets with ldm's or diffusers' names: its attention sites, the head probe that reads them, what lines inject."""
