"""Command-line flags, read by the host before it starts."""


def preload(parser):
    """Add this extension's flags to the host's parser."""
    parser.add_argument(
        "--beyondfacial-models-dir",
        type=str,
        default=None,
        help="a second models folder, searched before the host's, with ipadapter/, insightface/models/ and "
        "clip_vision/; saved identities are then in its beyondfacial/identities/",
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
        help="the device for face analysis, if the installed onnxruntime supports it; default: cpu",
    )
