"""Import torchvision for robomimic, also beside a CPU build of torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_OPERATORS = "torchvision._meta_registrations"


def import_torchvision() -> None:
    """Import torchvision, also where its compiled half does not fit this torch.

    PyPI's wheel for x86 is compiled for a CUDA build of torch. Beside a CPU build its operators (nms, roi_align, ...)
    cannot be loaded, and the import fails where torchvision describes their shapes to torch. robomimic uses networks
    and transforms alone, which are Python: so where the import fails there, and only there, it is repeated without that
    description. Who calls one of the missing operators still gets torch's error.

    Raises:
        ImportError: if torchvision is not installed.
        RuntimeError: if it fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules[_OPERATORS] = ModuleType(_OPERATORS)
        importlib.import_module("torchvision")
