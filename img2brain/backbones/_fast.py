"""The same network, laid out for speed: what a pass over thousands of images runs."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from img2brain.backbones._graph import Extractor


def accelerated(extractor: Extractor, device: torch.device, dtype: torch.dtype) -> Extractor:
    """Copy an extractor for inference.

    Parameters
    ----------
    extractor : Extractor
        In evaluation mode; it is left as it is.
    device : torch.device
        Where the copy runs.
    dtype : torch.dtype
        Of its parameters, inputs and activations.

    Returns
    -------
    Extractor
        With the channels of an image side by side in memory, as convolutions on processors and GPUs like them, and
        each batch normalisation folded into the convolution before it, where nothing else reads that convolution.
    """
    fast = copy.deepcopy(extractor)
    fold_batch_norms(fast.body)
    fast.requires_grad_(False)
    return fast.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def fold_batch_norms(body: fx.GraphModule) -> None:
    """Fold batch normalisations into convolutions, in place: equal up to rounding.

    Notes
    -----
    A normalisation with fixed statistics is an affine map of each channel, and so is part of the convolution
    (Jacob et al., 2018, section 3.2).
    """
    modules = dict(body.named_modules())
    for norm in list(body.graph.nodes):
        if not (_is_only_call(norm, nn.BatchNorm2d, modules) and _is_only_call(norm.args[0], nn.Conv2d, modules)):
            continue
        conv = norm.args[0]
        if len(conv.users) == 1:
            body.set_submodule(conv.target, fuse_conv_bn_eval(modules[conv.target], modules[norm.target]))
            norm.replace_all_uses_with(conv)
            body.graph.erase_node(norm)
    body.delete_all_unused_submodules()
    body.recompile()


def _is_only_call(node: fx.Node, kind: type[nn.Module], modules: dict[str, nn.Module]) -> bool:
    """Tell whether a node calls a module of this kind, and no other node does."""
    if node.op != "call_module" or not isinstance(modules[str(node.target)], kind):
        return False
    return [other.target for other in node.graph.nodes].count(node.target) == 1
