"""Which models of the Forge family are served: told by what a model is, as each host of the family has other flags."""

from __future__ import annotations

from torch import nn

from ...errors import BeyondFacialError, printable
from .. import model
from ..types import HostModel, Processing

LATENT_CHANNELS = 4  # of SD1.5's and SDXL's autoencoders
FLOW_PREDICTION, FLOW_CLASS = "const", "CONST"  # the predictor's attribute on Forge and Neo, a base class elsewhere
COMPILE_UNIT = "_torch_compile_config"  # what Neo's unit leaves on the model; it compiles within each call only
FLOW = (
    "BeyondFacial does not work with rectified-flow models, whose noise levels are not those of SD1.5 and SDXL; "
    "choose an SDXL checkpoint that predicts noise or velocity (Forge Neo takes an SDXL file for a flow model where "
    'its path holds "rectified").'
)
NAMES = {  # classes of the hosts that are not called as their models are
    "ErnieImage": "ERNIE-Image",
    "Flux2": "FLUX.2",
    "HunyuanDiT": "Hunyuan-DiT",
    "Krea2": "Krea 2",
    "Lumina2": "Lumina 2",
    "QwenImage": "Qwen-Image",
    "StableDiffusion3": "SD3",
    "WAN21": "Wan",
    "ZImage": "Z-Image",
}
NAMELESS = ("ForgeDiffusionEngine", "KModel", "BaseModel")


def refuse_unfit(p: Processing) -> None:
    """BeyondFacialError for models that the method does not serve, with their names."""
    model.refuse_unfit(p)
    objects = p.sd_model.forge_objects
    kmodel = objects.unet.model
    has_text_attention = any(name.endswith("attn2") for name, _ in kmodel.diffusion_model.named_modules())
    if not has_text_attention or getattr(objects.vae, "latent_channels", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise model.not_served(f"a {kind_of(p.sd_model, kmodel)}")
    if is_flow(objects.unet):
        raise BeyondFacialError(FLOW)
    if hasattr(kmodel, COMPILE_UNIT):
        raise BeyondFacialError(model.COMPILED)


def kind_of(engine: HostModel, kmodel: nn.Module) -> str:
    """What kind of model this is, by the hosts' own classes: the engine's on Forge and Neo, the model's elsewhere."""
    names = [type(each).__name__ for each in (engine, kmodel)]
    known = next((NAMES[name] for name in names if name in NAMES), None)
    return known or printable(next((name for name in names if name not in NAMELESS), "other"))


def is_flow(patcher: HostModel) -> bool:
    """Whether a patcher's model, or what an extension has set over its noise levels, is a rectified flow."""
    kmodel = patcher.model
    patched = (getattr(patcher, "object_patches", None) or {}).get("model_sampling")
    law = patched or getattr(kmodel, "predictor", None) or kmodel.model_sampling
    is_const = any(base.__name__ == FLOW_CLASS for base in type(law).__mro__)
    return is_const or getattr(law, "prediction_type", "") == FLOW_PREDICTION
