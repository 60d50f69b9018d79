"""How prediction and evaluation grow with what they are given; linear is expected.

A prediction is `TriplanarNetwork` with an FCA-DenseNet of random weights, in float32 on
the CPU or in mixed precision on the GPU, on a cube of noise without an empty slice:

- of several extents, with one pair of neighbors: seconds per million voxels;
- of the smallest extent, with 0 to 3 pairs of neighbors, and with 1 to 4 channels:
  seconds relative to one pair and to one channel. Only the first convolution of the
  network sees more channels.

The predictions take turns in random order; times are medians over the turns, of which
the first of the smallest extent is not counted. An evaluation is `evaluate_case` of two
label maps of 192 x 192 x 192 voxels with cubes of two voxels' edge, each of which the
prediction misses by one voxel: seconds for every number of lesions.

Options: ``extents`` (voxels), ``turns``, ``lesions``, ``device`` (``cpu`` or ``cuda``;
by default the GPU if there is one).
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks._process import default_device
from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.networks import FCADenseNet, TriplanarNetwork
from nnunet_cel.volumes import Volume

_LABEL_MAP_EXTENT = 192


def run(
    *,
    extents: Sequence[int] = (64, 96, 128, 192, 256),
    turns: int = 1,
    lesions: Sequence[int] = (10, 100, 1_000, 10_000),
    device: str | None = None,
) -> dict[str, Any]:
    """Return seconds and what they are relative to; see the module's docstring."""
    device = device or default_device()
    smallest = min(extents)
    volumes = [(extent, 1, 1) for extent in extents]
    neighbors = [(smallest, pairs, 1) for pairs in range(4)]
    channels = [(smallest, 1, count) for count in range(1, 5)]
    times: dict[tuple[int, int, int], list[float]] = {
        each: [] for each in [*volumes, *neighbors, *channels]
    }
    _time_prediction(smallest, 1, 1, torch.device(device))  # warm-up
    rng = random.Random(0)
    for _ in range(turns):
        for each in rng.sample(list(times), len(times)):
            times[each].append(_time_prediction(*each, torch.device(device)))
    medians = {each: statistics.median(values) for each, values in times.items()}
    result: dict[str, Any] = {"device": device, "turns": turns}
    for each in volumes:
        extent, seconds = each[0], medians[each]
        result[f"{extent}^3 voxels, s"] = seconds
        result[f"{extent}^3 voxels, s per million"] = seconds / extent**3 * 1e6
    one = medians[smallest, 1, 1]
    for each in neighbors:
        result[f"{each[1]} pairs of neighbors / 1 pair"] = medians[each] / one
    for each in channels:
        result[f"{each[2]} channels / 1 channel"] = medians[each] / one
    for count in lesions:
        result[f"evaluation of {count} lesions, s"] = statistics.median(
            [_time_evaluation(count) for _ in range(3)]
        )
    return result


@torch.inference_mode()
def _time_prediction(
    extent: int, neighbor_pairs: int, channels: int, device: torch.device
) -> float:
    torch.manual_seed(0)
    network = TriplanarNetwork(
        FCADenseNet(channels * (2 * neighbor_pairs + 1), 2),
        neighbor_pairs=neighbor_pairs,
        heads="softmax",
        input_channels=channels,
    )
    network.to(device).eval()
    volume = torch.rand(1, channels, *[extent] * 3, device=device)
    begin = time.perf_counter()
    with torch.autocast(device.type, enabled=device.type == "cuda"):
        network(volume).sum().item()  # the sum waits for a GPU
    return time.perf_counter() - begin


def _time_evaluation(lesions: int) -> float:
    # cubes of two voxels with two voxels of background between them
    places = np.arange(0, _LABEL_MAP_EXTENT, 4)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(places) ** 3, size=lesions, replace=False)
    starts = [places[each] for each in np.unravel_index(chosen, [len(places)] * 3)]
    reference, prediction = (
        np.zeros([_LABEL_MAP_EXTENT] * 3, dtype=np.uint8) for _ in range(2)
    )
    for x, y, z in zip(*starts, strict=True):
        reference[x : x + 2, y : y + 2, z : z + 2] = 1
        prediction[x + 1 : x + 2, y : y + 2, z : z + 2] = 1
    begin = time.perf_counter()
    evaluate_case(
        Volume(prediction, np.eye(4)),
        Volume(reference, np.eye(4)),
        load_protocol("paper"),
        labels=Labels(),
    )
    return time.perf_counter() - begin
