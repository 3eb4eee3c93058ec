"""The four papers' own figures beside those of their architectures, built here without being allocated.

Each count is made on the meta device from the same building blocks that the strategies are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from retune.cross_modal import CrossModalAdaptor
from retune.methods.adaptors import count_parameters
from retune.methods.lora import add_lora
from retune.methods.strategy import Figure
from retune.projections import Projections, projector

CODE: Final = "the authors' code"
RIVALS: Final = {"GLoRIA": 134_178_368, "ConVIRT": 138_048_064, "MGCA": 172_734_208}
"""Trainable parameters of the methods that Adaptor and M-FLAG compare themselves with."""


def adaptor() -> Sequence[Figure]:
    """Adaptor with texts of 768 dimensions, and beside the methods that its paper compares with."""
    published = {512: 12_011_009, 384: 11_912_705, 768: 12_207_617}
    with torch.device("meta"):
        built = {dim: CrossModalAdaptor(dim, 768) for dim in published}
    ours = {dim: count_parameters(adaptor) for dim, adaptor in built.items()}
    layer = count_parameters(built[768].layers[0])
    return [
        *(Figure(f"images of d = {dim}", count, ours[dim], CODE) for dim, count in published.items()),
        Figure("one layer", 5_513_984, layer, CODE),
        *(
            Figure(f"below {name}, d = 768", _below(published[768], n), _below(ours[768], n), CODE, "%")
            for name, n in RIVALS.items()
        ),
    ]


def cleft() -> Sequence[Figure]:
    """CLEFT with GPT-2 as in BioMedLM and DINOv2 ViT-B/14 with registers, beside BERT and CLIP."""
    import transformers as tf

    with torch.device("meta"):
        gpt2 = tf.GPT2Model(tf.GPT2Config(n_embd=2560, n_layer=32, n_head=20, n_positions=1024))
        bert = count_parameters(tf.BertModel(tf.BertConfig(vocab_size=28_996)))
        vit = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(image_size=518, patch_size=14))
        clip = count_parameters(tf.CLIPModel(tf.CLIPConfig(vision_config={"patch_size": 16})))
        heads = Projections(768, 2560, 512, generator=None)
        image_tower, words = count_parameters(vit), torch.empty(30, gpt2.config.n_embd).numel()
        lora = sum(p.numel() for p in add_lora(gpt2, rank=8, alpha=32, dropout=0.1).values())
    text, image = count_parameters(heads.text), count_parameters(heads.image)
    everything = image_tower + image + lora + text
    share, less = 100 * (lora + text) / bert, 100 * (1 - everything / clip)
    return [
        Figure("LoRA in GPT-2, r = 8", 2_621_440, lora, CODE),
        Figure("text projection, 2560 to 512", 1_311_232, text, CODE),
        Figure("image projection, 768 to 512", 393_728, image, CODE),
        Figure("30 learnt words", 76_800, words, CODE),
        Figure("LoRA and text projection, of a BERT encoder", 3.6, share, "the abstract", "%"),
        Figure("all, below CLIP ViT-B/16", 39.2, less, "the abstract", "%"),
    ]


def m_flag() -> Sequence[Figure]:
    """M-FLAG's ResNet-50 and both projectors, and its image side beside GLoRIA."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        resnet = resnet50()
        resnet.fc = nn.Identity()
        parts = resnet, projector(2048, 2048, 1024), projector(768, 2048, 1024)
        tower, image, text = map(count_parameters, parts)
    gloria = RIVALS["GLoRIA"]
    less = 100 * (1 - (tower + image) / gloria)
    return [
        Figure("image tower, ResNet-50 without classifier", 23_508_032, tower, CODE),
        Figure("image projector", 6_298_624, image, CODE),
        Figure("text projector", 3_677_184, text, CODE),
        Figure(f"image tower and projector below GLoRIA's {gloria:,}", 77.8, less, "abstract: 78 %", "%"),
    ]


def _below(count: int, rival: int) -> float:
    return round(100 * (1 - count / rival), 1)
