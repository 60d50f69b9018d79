"""TransUNet, a comparison network of the paper: ResNet-50, ViT-B/16 and a decoder.

J. Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image
Segmentation", 2021 (the paper's reference 43; code: github.com/Beckschen/TransUNet). A
ResNet (*backbone*) turns a slice into features of 1/16 of its extent, a vision
*transformer* lets all of them look at each other, and a decoder doubles the extent
four times (*cascaded upsampler*) with skip connections from the backbone. Backbone and
transformer are built from timm's classes and are timm's ``vit_base_r50_s16`` without
class token; the decoder follows the authors' code. As there, TransUNet has 105,322,146
parameters for three channels, two heads and slices of 256 x 256 (Table 2: 105.3 M).

Position embeddings are interpolated to the grid of the input, and upsampling keeps the
centers of voxels where they are, so that windows of any extent go through the same
weights; there the authors' code differs, see `docs/networks.md`.

timm is imported when a network is built: it needs torchvision, which cannot be loaded
beside a torch of another build.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_cel.networks.slice_network import SliceNetwork, initialize_convolutions

__all__ = ["TransUNet"]

STEM_FEATURES = 64


def _timm() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # timm decorates functions with what torch calls deprecated
            warnings.filterwarnings("ignore", r".torch\.jit\.\w+. is deprecated")
            import timm.layers
            import timm.models.resnetv2
            import timm.models.vision_transformer
    # torchvision of another build than torch fails with a RuntimeError
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"TransUNet is built from timm, which cannot be imported: {error}. Install "
            "timm, and a torchvision of the same source and build as torch."
        ) from error
    module: ModuleType = timm
    return module


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3 x 3 convolution, batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class UpBlock(nn.Module):
    """Doubles the extent, adds a skip connection, and two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            _convolution(in_channels, out_channels),
            _convolution(out_channels, out_channels),
        )

    def forward(self, features: Tensor, *skip: Tensor) -> Tensor:
        """Map features ``(B, C, H, W)`` to features ``(B, out_channels, 2H, 2W)``."""
        features = F.interpolate(features, scale_factor=2.0, mode="bilinear")
        if skip:
            features = torch.cat([features, *skip], dim=1)
        merged: Tensor = self.convolutions(features)
        return merged


class TransUNet(SliceNetwork):
    """TransUNet with R50-ViT-B/16: stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    Slices are padded to multiples of 16 voxels. No parameter depends on their extent,
    so weights of one training window can be used at any other.

    Args:
        input_channels: Channels of the input, ``C``.
        num_classes: Channels of the output, ``K``.
        pretrained_file: A checkpoint of timm's ``vit_base_r50_s16_224`` or ``_384``
            (``.safetensors``, or ``.pth`` with weights only) that a training from
            scratch starts from. The stem is adapted to ``C`` as timm does it. Never
            read in predictions. None stands for random weights.
        position_extent: Edge length in voxels of the slices that the stored position
            embeddings belong to.
        backbone_layers: Bottleneck blocks of every stage of the ResNet.
        backbone_features: Channels of every stage of the ResNet, multiples of 128.
        embedding: Channels of the tokens of the transformer.
        depth: Blocks of the transformer.
        num_heads: Attention heads of every block.
        bridge_features: Channels that the decoder gets from the transformer.
        decoder_features: Channels of the decoder, the lowest resolution first.
        dropout: Dropout rate of the transformer.
        gradient_checkpointing: Whether backbone and transformer recompute their
            activations in the backward pass: less memory, same gradients.
        lesion_prior: Probability of lesion that the untrained network puts out.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        pretrained_file: str | None = None,
        position_extent: int = 256,
        backbone_layers: Sequence[int] = (3, 4, 9),
        backbone_features: Sequence[int] = (256, 512, 1024),
        embedding: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        bridge_features: int = 512,
        decoder_features: Sequence[int] = (256, 128, 64, 16),
        dropout: float = 0.1,
        gradient_checkpointing: bool = False,
        lesion_prior: float = 0.01,
    ) -> None:
        stride = 2 ** (len(backbone_layers) + 1)
        super().__init__(input_channels, lesion_prior=lesion_prior, multiple=stride)
        self.pretrained_file = pretrained_file
        # what timm's vit_base_r50_s16_224 consists of, in two parts
        timm = _timm()
        self.backbone = timm.models.resnetv2.ResNetV2(
            layers=list(backbone_layers),
            channels=tuple(backbone_features),
            in_chans=input_channels,
            num_classes=0,
            global_pool="",
            stem_chs=STEM_FEATURES,
            stem_type="",
            preact=False,
            conv_layer=functools.partial(timm.layers.StdConv2d, eps=1e-8),
        )
        self.transformer = timm.models.vision_transformer.VisionTransformer(
            img_size=position_extent // stride,
            patch_size=1,
            in_chans=backbone_features[-1],
            num_classes=0,
            global_pool="",
            class_token=False,
            dynamic_img_size=True,
            embed_dim=embedding,
            depth=depth,
            num_heads=num_heads,
            pos_drop_rate=dropout,
            proj_drop_rate=dropout,
        )
        self.backbone.set_grad_checkpointing(gradient_checkpointing)
        self.transformer.set_grad_checkpointing(gradient_checkpointing)
        self.bridge = _convolution(embedding, bridge_features)
        self.decoder = nn.ModuleList()
        channels = bridge_features
        skips = [*reversed(backbone_features[:-1]), STEM_FEATURES, 0]
        for skip, features in zip(skips, decoder_features, strict=True):
            self.decoder.append(UpBlock(channels + skip, features))
            channels = features
        self.head = nn.Conv2d(channels, num_classes, kernel_size=3, padding=1)
        self.reset_parameters()

    def reset_parameters(self, *, heads: str = "softmax") -> None:
        """Draw new weights for the decoder; the rest keeps what timm drew."""
        initialize_convolutions(self.bridge)
        initialize_convolutions(self.decoder)
        self._reset_head(heads)

    def _logits(self, stacks: Tensor) -> Tensor:
        deepest, (*skips, _) = self.backbone.forward_intermediates(stacks)
        tokens = self.transformer.forward_features(deepest)
        features = tokens.transpose(1, 2).reshape(len(stacks), -1, *deepest.shape[2:])
        features = self.bridge(features)
        for block in self.decoder:
            features = block(features, *[skips.pop()] if skips else [])
        logits: Tensor = self.head(features)
        return logits

    def load_initial_weights(self) -> str:
        """Load backbone and transformer from ``pretrained_file``, if it is given.

        Raises:
            ValueError: If it is no checkpoint that can be read and fits.
        """
        if self.pretrained_file is None:
            return "Initial weights: random; 'pretrained_file' names no checkpoint."
        file, own = Path(self.pretrained_file).expanduser(), self.state_dict()
        wanted = [key for key in own if key.startswith(("backbone.", "transformer."))]
        try:
            read = _timm().models.load_state_dict(str(file), weights_only=True)
            weights = self._adapt({k: torch.as_tensor(v) for k, v in read.items()})
            self.load_state_dict(own | {key: weights[key] for key in wanted})
        except Exception as error:  # every format fails in its own way
            raise ValueError(
                "The 'pretrained_file' of TransUNet must be a checkpoint of timm's "
                "vit_base_r50_s16_224 or _384 that holds weights only, .safetensors or "
                f".pth. {file} is missing or another file: {error!r} Correct the path "
                "in the plans file, or set it to null for random weights."
            ) from error
        return (
            f"Initial weights: backbone and transformer from {file}, the stem adapted "
            f"to {self.input_channels} channels; decoder random."
        )

    def _adapt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of timm's hybrid under our names, of our shapes."""
        timm, stem = _timm(), "patch_embed.backbone.stem.conv.weight"
        weights[stem] = timm.models.adapt_input_conv(self.input_channels, weights[stem])
        weights["pos_embed"] = timm.layers.resample_abs_pos_embed(
            weights["pos_embed"][:, int("cls_token" in weights) :],
            new_size=list(self.transformer.patch_embed.grid_size),
            num_prefix_tokens=0,
        )
        return {
            f"transformer.{key}".replace("transformer.patch_embed.back", "back"): value
            for key, value in weights.items()
        }
