"""The four control modalities of Transfer2.5, in the order in which its branches are listed."""

from __future__ import annotations

from typing import Literal, get_args

Modality = Literal["edge", "vis", "depth", "seg"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
