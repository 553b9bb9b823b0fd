"""Faults in lib_beyondfacial/adapters."""

from . import Mutation as M

ATTENTION = "tests/adapters/test_attention.py"
CHECKPOINTS = "tests/adapters/test_checkpoints.py"
FAMILIES = "tests/adapters/test_families.py"

MUTATIONS = [
    M(
        "adapters/attention.py",
        "each[list(images)]",
        "each[: len(query)]",
        ATTENTION,
        "of several persons each picture gets the wrong one's face",
    ),
    M(
        "adapters/attention.py",
        "key = (site, (query.dtype, query.device))",
        "key = (site, query.device)",
        ATTENTION,
        "keys cached in one dtype are used in another",
    ),
    M(
        "adapters/attention.py",
        '.to_v_ip.weight"].float()',
        '.to_k_ip.weight"].float()',
        ATTENTION,
        "values are made by the key's weights",
    ),
    M(
        "adapters/attention.py",
        '(("attn1", 0), ("attn2", 1))',
        '(("attn1", 1), ("attn2", 0))',
        ATTENTION,
        "the LoRA's attentions are swapped",
    ),
    M(
        "adapters/attention.py",
        "self._attention is None or self._attention.sites != shapes",
        "self._attention is None",
        ATTENTION,
        "after a change of checkpoint the old model's keys are used",
    ),
    M(
        "adapters/attention.py",
        "if not all(bool(torch.isfinite(each)",
        "if not any(bool(torch.isfinite(each)",
        ATTENTION,
        "an adapter that overflows at one site draws black pictures",
    ),
    M(
        "adapters/families/faceid_plus_v2.py",
        "return tokens + clip_weight * resampled",
        "return tokens + resampled",
        FAMILIES,
        "the CLIP weight has no effect",
    ),
    M("adapters/families/portrait.py", "[:MAX_FACES]", "", FAMILIES, "more photos than the adapter was trained on"),
    M(
        "adapters/features.py",
        "_arcface(record, models_dirs) * record.norm",
        "_arcface(record, models_dirs)",
        "tests/adapters/test_features.py",
        "InstantID gets a unit embedding",
    ),
    M(
        "adapters/layouts.py",
        "if n % 2 and leaf in",
        "if not n % 2 and leaf in",
        CHECKPOINTS,
        "whole FaceID files are refused as damaged",
    ),
    M(
        "adapters/registry.py",
        "return stat.st_mtime_ns, stat.st_size",
        "return 0, 0",
        "tests/adapters/test_registry.py",
        "an adapter file that was replaced stays the old one",
    ),
    M(
        "adapters/safetensors_file.py",
        "_read(file, base + start,",
        "_read(file, start,",
        "tests/adapters/test_checkpoints.py",
        "numbers are read from the wrong place of the file",
    ),
]
