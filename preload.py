"""Command-line flags, read by the host before it starts."""


def preload(parser):
    """Add this extension's flags to the host's parser."""
    parser.add_argument(
        "--beyondfacial-models-dir",
        type=str,
        default=None,
        help="a second models folder, searched before the host's: ipadapter/ and insightface/models/ inside it",
    )
