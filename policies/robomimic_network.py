"""robomimic's behaviour cloning (Mandlekar et al. 2021): its networks, losses and optimiser, sized by a config of ours.

All code that trains and acts is robomimic's, called through its `Algo` (extra `robomimic`, version 0.3). Its own config
is never read from a file: parts of it are evaluated as Python, so it is made here from typed values.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from cosmos_engine.errors import InputError
from policies.images import resize_by_area
from policies.policy import PolicySpec
from policies.torchvision_import import import_torchvision


@dataclass(frozen=True)
class RobomimicNetworkConfig:
    """Size robomimic's actor. The defaults are its published BC-RNN for images, which Isaac Lab's workflow trains too.

    Every camera gets a ResNet18 with spatial softmax and a linear layer of 64 features.
    """

    algorithm: Literal["bc", "bc_rnn"] = "bc_rnn"
    image_size: int = 84  # pixels that images are kept at
    crop_size: int = 76  # pixels that the encoder sees: a random crop in training, the centre when acting
    keypoints: int = 32
    gmm_modes: int = 5  # of the mixture of Gaussians that actions are drawn from; 0: one action, squared error
    sequence: int = 10  # control steps that an RNN is unrolled over, in training and when acting; 1 for bc
    rnn_width: int = 1000
    rnn_layers: int = 2
    layers: tuple[int, ...] = ()  # of the perceptron behind the RNN; bc has (1024, 1024)


BC = RobomimicNetworkConfig(algorithm="bc", gmm_modes=0, sequence=1, layers=(1024, 1024))
BC_RNN = RobomimicNetworkConfig()


def check_network_config(config: RobomimicNetworkConfig) -> None:
    """Make sure that the sizes fit together.

    Raises:
        InputError: names the key that does not fit.
    """
    checks = [
        (
            0 < config.crop_size < config.image_size,
            f"crop_size: expected 1 to below image_size {config.image_size}, got {config.crop_size}",
        ),
        (config.keypoints >= 1, f"keypoints: expected at least 1, got {config.keypoints}"),
        (config.gmm_modes >= 0, f"gmm_modes: expected 0 or more, got {config.gmm_modes}"),
        (config.sequence >= 1, f"sequence: expected at least 1, got {config.sequence}"),
        (
            config.algorithm != "bc" or config.sequence == 1,
            f"sequence: expected 1 for algorithm bc, which sees one control step, got {config.sequence}",
        ),
        (config.rnn_width >= 1, f"rnn_width: expected at least 1, got {config.rnn_width}"),
        (config.rnn_layers >= 1, f"rnn_layers: expected at least 1, got {config.rnn_layers}"),
        (all(width >= 1 for width in config.layers), f"layers: expected positive widths, got {list(config.layers)}"),
    ]
    for holds, message in checks:
        if not holds:
            raise InputError(f"network.{message}")


def make_algorithm(
    config: RobomimicNetworkConfig, spec: PolicySpec, device: torch.device, learning_rate: float = 1e-4
) -> Any:
    """Return robomimic's `Algo` with fresh weights.

    Args:
        config: sizes.
        spec: what the policy sees and does.
        device: where it computes.
        learning_rate: of its Adam, constant.

    Raises:
        InputError: if robomimic or torchvision is not installed, or the sizes do not fit together.
    """
    check_network_config(config)
    with contextlib.redirect_stdout(sys.stderr):  # robomimic greets on stdout
        try:
            import_torchvision()
            from robomimic.algo import algo_factory
            from robomimic.config import config_factory
            from robomimic.utils.obs_utils import initialize_obs_utils_with_config
        except ImportError as error:
            raise InputError(f"robomimic: needs the extra `robomimic` ({error})") from error
        settings = config_factory("bc")
        with settings.values_unlocked():
            _fill(settings, config, spec, learning_rate)
        initialize_obs_utils_with_config(settings)
        shapes = {name: [3, config.image_size, config.image_size] for name in spec.images} | dict(spec.low_dim)
        algorithm = algo_factory("bc", settings, obs_key_shapes=shapes, ac_dim=spec.action_dim, device=device)
    return algorithm


def _fill(settings: Any, config: RobomimicNetworkConfig, spec: PolicySpec, learning_rate: float) -> None:
    settings.observation.modalities.obs.low_dim = list(spec.low_dim)
    settings.observation.modalities.obs.rgb = list(spec.images)
    rgb = settings.observation.encoder.rgb
    rgb.core_class = "VisualCore"
    rgb.core_kwargs.feature_dimension = 64
    rgb.core_kwargs.backbone_class = "ResNet18Conv"
    rgb.core_kwargs.backbone_kwargs.pretrained = False
    rgb.core_kwargs.backbone_kwargs.input_coord_conv = False
    rgb.core_kwargs.pool_class = "SpatialSoftmax"
    rgb.core_kwargs.pool_kwargs.num_kp = config.keypoints
    rgb.core_kwargs.pool_kwargs.learnable_temperature = False
    rgb.core_kwargs.pool_kwargs.temperature = 1.0
    rgb.core_kwargs.pool_kwargs.noise_std = 0.0
    rgb.obs_randomizer_class = "CropRandomizer"
    rgb.obs_randomizer_kwargs.crop_height = config.crop_size
    rgb.obs_randomizer_kwargs.crop_width = config.crop_size
    rgb.obs_randomizer_kwargs.num_crops = 1
    rgb.obs_randomizer_kwargs.pos_enc = False
    algo = settings.algo
    algo.optim_params.policy.learning_rate.initial = learning_rate
    algo.actor_layer_dims = tuple(config.layers)
    algo.gmm.enabled = config.gmm_modes > 0
    algo.gmm.num_modes = max(1, config.gmm_modes)
    algo.rnn.enabled = config.algorithm == "bc_rnn"
    algo.rnn.horizon = config.sequence
    algo.rnn.hidden_dim = config.rnn_width
    algo.rnn.num_layers = config.rnn_layers
    settings.train.seq_length = config.sequence


def as_robomimic(
    observations: Mapping[str, np.ndarray], spec: PolicySpec, image_size: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return a batch of single observations as robomimic's networks take them.

    Args:
        observations: name -> (b, ...); images uint8 (b, h, w, 3).
        spec: which of them, and what they are.
        image_size: pixels that images are brought to.
        device: where to.

    Returns:
        name -> float32; images (b, 3, image_size, image_size) in [0, 1], as robomimic processes them.
    """
    seen = {name: torch.from_numpy(resize_by_area(observations[name], image_size)).to(device) for name in spec.images}
    images = {name: image.permute(0, 3, 1, 2).contiguous().float() / 255.0 for name, image in seen.items()}
    low_dim = {name: torch.from_numpy(observations[name].astype(np.float32)).to(device) for name in spec.low_dim}
    return images | low_dim
