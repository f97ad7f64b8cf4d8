"""The same network, laid out for speed: what a pass over thousands of images runs."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from img2brain.backbones._graph import Extractor

_RELUS = (torch.relu, nn.functional.relu)
_SUMS = (operator.add, torch.add)


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
        each batch normalisation folded into the convolution before it, where nothing else reads that convolution. On a
        processor sums and rectifiers become part of the convolution before them as well.
    """
    fast = copy.deepcopy(extractor)
    if isinstance(fast.body, fx.GraphModule):
        _simplify(fast.body, device, dtype)
    fast.requires_grad_(False)
    return fast.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _simplify(body: fx.GraphModule, device: torch.device, dtype: torch.dtype) -> None:
    fold_batch_norms(body)
    if device.type == "cpu" and _has_fused_operations(dtype):
        fuse_operations(body)


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


def fuse_operations(body: fx.GraphModule) -> None:
    """Let oneDNN compute convolutions and linear maps with what follows them, in place: equal up to rounding.

    Notes
    -----
    What is added to a convolution, and a rectifier after it, are applied while its output is in a register, and
    weights are laid out once, not with every batch. What a layer that is asked for needs stays as it is: it has a
    reader more.
    """
    modules = dict(body.named_modules())
    for node in list(body.graph.nodes):
        if _is_only_call(node, nn.Conv2d, modules) and _is_plain(modules[node.target]):
            addend = _take_sum(body.graph, node)
            rectified = _take_relu(body.graph, node, modules)
            body.set_submodule(node.target, _Convolution(modules[node.target], rectified))
            node.args = node.args if addend is None else (*node.args, addend)
        elif _is_only_call(node, nn.Linear, modules):
            rectified = _take_relu(body.graph, node, modules)
            body.set_submodule(node.target, _Linear(modules[node.target], rectified))
    body.delete_all_unused_submodules()
    body.recompile()


class _Convolution(nn.Module):
    """A convolution, what is added to it, and a rectifier."""

    def __init__(self, layer: nn.Conv2d, rectified: bool) -> None:
        super().__init__()
        self.layer, self.rectified = layer, rectified
        self._packed: tuple[torch.Size, Any] | None = None

    def forward(self, batch: torch.Tensor, addend: torch.Tensor | None = None) -> torch.Tensor:
        layer, weight = self.layer, self._weight_for(batch.shape)
        settings = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        operation, relu = torch.ops.mkldnn._convolution_pointwise, "relu" if self.rectified else None
        if addend is None:
            return operation(batch, weight, layer.bias, *settings, relu or "none", [], "")  # type: ignore[no-any-return]
        return operation.binary(batch, addend, weight, layer.bias, *settings, "add", 1.0, relu, [], None)  # type: ignore[no-any-return]

    def _weight_for(self, shape: torch.Size) -> Any:
        """Return the weights in the layout that suits a batch of this shape: the last one's, or another."""
        packed = self._packed
        if packed is None or packed[0] != shape:
            layer = self.layer
            settings = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups, list(shape))
            packed = (shape, torch.ops.mkldnn._reorder_convolution_weight(layer.weight, *settings))
            self._packed = packed
        return packed[1]


class _Linear(nn.Module):
    """A linear map and a rectifier."""

    def __init__(self, layer: nn.Linear, rectified: bool) -> None:
        super().__init__()
        self.layer, self.then = layer, "relu" if rectified else "none"
        self._packed: tuple[int, Any] | None = None

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        n_rows, packed = batch.numel() // batch.shape[-1], self._packed
        if packed is None or packed[0] != n_rows:
            packed = (n_rows, torch.ops.mkldnn._reorder_linear_weight(self.layer.weight, n_rows))
            self._packed = packed
        return torch.ops.mkldnn._linear_pointwise(batch, packed[1], self.layer.bias, self.then, [], "")  # type: ignore[no-any-return]


def _has_fused_operations(dtype: torch.dtype) -> bool:
    """Tell whether this build of torch has oneDNN's operations, and the processor can run them."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight", "_linear_pointwise", "_reorder_linear_weight")
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not is_built or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _take_sum(graph: fx.Graph, conv: fx.Node) -> fx.Node | None:
    """Let a convolution take the place of the sum that alone reads it, and return what it was added to.

    That must be computed before it; both have the shape of a block's output.
    """
    total = next(iter(conv.users))
    if len(conv.users) != 1 or total.op != "call_function" or total.target not in _SUMS or total.kwargs:
        return None
    others = [item for item in total.args if item is not conv]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or not others[0] < conv:
        return None
    total.replace_all_uses_with(conv)
    graph.erase_node(total)
    return others[0]


def _take_relu(graph: fx.Graph, node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Let an operation take the place of the rectifier that alone reads it."""
    relu = next(iter(node.users))
    calls = relu.op == "call_function" and relu.target in _RELUS
    if len(node.users) != 1 or not (calls or (relu.op == "call_module" and type(modules[str(relu.target)]) is nn.ReLU)):
        return False
    relu.replace_all_uses_with(node)
    graph.erase_node(relu)
    return True


def _is_plain(conv: nn.Module) -> bool:
    return isinstance(conv, nn.Conv2d) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _is_only_call(node: fx.Node, kind: type[nn.Module], modules: dict[str, nn.Module]) -> bool:
    """Tell whether a node calls a module of this kind, and no other node does, or reads its parameters."""
    if node.op != "call_module" or not isinstance(modules[str(node.target)], kind):
        return False
    inside = f"{node.target}."
    read = [str(other.target) for other in node.graph.nodes if other.op in ("call_module", "get_attr")]
    return read.count(str(node.target)) == 1 and not any(name.startswith(inside) for name in read)
