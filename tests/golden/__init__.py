"""Pictures of a fixed list of requests, kept in a file, to see whether a change of the code changes any.

    python -m tests.golden record FILE
    python -m tests.golden compare FILE [--only WORD ...]

The requests go through the embedded host and the Forge-shaped double, with the shipped Dollhouse weights. They are
written in neutral names (cases.py) and use the product as an API client does, so that one list serves the code before
and after its insides and its settings' names change. The file holds for one machine and one torch.
"""
