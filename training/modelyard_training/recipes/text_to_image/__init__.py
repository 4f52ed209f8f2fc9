"""Text to image: a LoRA adapter for FLUX.1, SDXL or Stable Diffusion, from pictures or from a prompt alone.

`base` loads the pipeline, `families` says how each kind of model is trained, `pictures` reads the data set, `cache`
holds what the frozen parts make of it, `task` is what the loop trains, `samples` draws pictures on the way.
"""

from __future__ import annotations

from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.params import TextToImageLoRAParams
from modelyard_training.recipes.adapters import check_rank
from modelyard_training.recipes.text_to_image import base, cache, families, pictures
from modelyard_training.recipes.text_to_image.task import ConceptTask, PicturesTask


def build(run: Run) -> PicturesTask | ConceptTask:
    """The task of a run. Raises `BadInput`."""
    method = run.params["method"] or ("Concept" if run.config.dataset is None else "Pictures")
    if method == "Concept" and not run.params["prompt"]:
        raise BadInput("Training without pictures needs a prompt: set textToImageLoRA.prompt, or give a data set.")
    if run.config.form == "Merged":
        raise BadInput("An image adapter is saved alone, as diffusers loads it: drop save.form: Merged.")
    folder = run.base_model()
    kind = base.check(folder)
    assistant = base.check_assistant(kind, run.assistant())
    resolution = run.params["resolution"] or (512 if kind == "sd" else 1024)
    found = pictures.read(run, families.DIVISOR[kind], resolution) if method == "Pictures" else None
    run.stop.check()
    pipeline = base.load(folder, run.params, run.world.device)
    family = families.of(kind, pipeline)
    base.adapt(pipeline, family, run.params, assistant, run.adapter())
    block = run.config.block()
    assert isinstance(block, TextToImageLoRAParams)
    check_rank(block.lora, family.model.peft_config[base.ADAPTER].r)
    prompts = base.sample_prompts(run.params, found)
    cached = cache.fill(family, pipeline, found, prompts, run)
    if found is None:
        return ConceptTask(run, family, pipeline, cached, prompts, resolution)
    return PicturesTask(run, family, pipeline, cached, found, prompts, resolution)
