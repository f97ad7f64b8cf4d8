from __future__ import annotations

import torch

from img2brain.backbones import exact_products


def settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def test_settings_are_back_when_the_last_of_several_has_computed() -> None:
    at_first = settings()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.allow_tf32 = True
        first, second = exact_products(), exact_products()
        first.__enter__()
        second.__enter__()
        assert settings() == ("highest", False)
        first.__exit__(None, None, None)
        assert settings() == ("highest", False)
        second.__exit__(None, None, None)
        assert settings() == ("medium", True)
    finally:
        torch.set_float32_matmul_precision(at_first[0])
        torch.backends.cudnn.allow_tf32 = at_first[1]
