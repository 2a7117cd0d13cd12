"""Read any policy that can act: a diffusion policy, a fine-tuned one, or one that robomimic trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from policies.checkpoint import LoadedPolicy, load_policy

if TYPE_CHECKING:
    from policies.robomimic_policy import LoadedRobomimicPolicy


def load_any_policy(folder: Path, device: torch.device) -> LoadedPolicy | LoadedRobomimicPolicy:
    """Read the policy of a run's folder for acting.

    Raises:
        InputError: as `load_policy` and `load_robomimic_policy`.
    """
    from policies.robomimic_policy import ROBOMIMIC_FILE, load_robomimic_policy

    if (folder / ROBOMIMIC_FILE).is_file():
        return load_robomimic_policy(folder, device)
    return load_policy(folder, device)
