"""Command-line flags, read by the host before it starts."""


def preload(parser):
    """Add this extension's flags to the host's parser."""
    parser.add_argument(
        "--beyondfacial-models-dir",
        type=str,
        default=None,
        help="a second models folder, searched before the host's: ipadapter/, insightface/models/ and clip_vision/ "
        "inside it; saved identities then lie in beyondfacial/identities/ inside it, too",
    )
    parser.add_argument(
        "--beyondfacial-allow-writes",
        action="store_true",
        help="let everyone who reaches the web UI save, rename and delete identities, although it runs with --listen, "
        "--share or another --server-name",
    )
    parser.add_argument(
        "--beyondfacial-face-provider",
        type=str,
        default="cpu",
        choices=("cpu", "cuda", "rocm", "directml", "coreml", "openvino"),
        help="what onnxruntime analyses faces on, as far as the installed one can; default: cpu",
    )
