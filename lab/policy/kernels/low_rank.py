"""A linear layer with a LoRA adapter (arXiv 2106.09685) as one operation, y = x W' + b + s (x A') B'.

peft computes the adapter's branch in float32 and adds it in four passes over tensors of the size of the output; on a GPU that takes
longer than the matrix products. Here the branch is added in place, in the type of the products, and x is kept once for the
backward pass, in that type, for all layers that read it.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LowRankLinear(torch.autograd.Function):
    """Apply x [N, in], frozen W [out, in] and b [out], A [r, in], B [out, r] -> [N, out], all products in `dtype`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float, dtype: torch.dtype
    ) -> Tensor:
        """Compute y, [N, out]."""
        with torch.autocast(x.device.type, enabled=False):
            narrow, weight, down, up = x.to(dtype), weight.to(dtype), a.to(dtype), b.to(dtype)
            out = narrow @ weight.t() if bias is None else torch.addmm(bias.to(dtype), narrow, weight.t())
            low = narrow @ down.t()
            out.addmm_(low, up.t(), alpha=scaling)
        ctx.save_for_backward(narrow, weight, down, up, low)
        ctx.scaling, ctx.types = scaling, (x.dtype, a.dtype, b.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of x, A and B."""
        narrow, weight, down, up, low = ctx.saved_tensors
        of_x, of_a, of_b = ctx.types
        grad = grad.contiguous()
        # The scale is applied to the small matrix.
        back = grad @ (up * ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addmm(grad @ weight, back, down) if grad.device.type == "cpu" else (grad @ weight).addmm_(back, down)
            grad_x = grad_x.to(of_x)
        grad_a = (back.t() @ narrow).to(of_a) if ctx.needs_input_grad[3] else None
        grad_b = (grad.t() @ low).mul_(ctx.scaling).to(of_b) if ctx.needs_input_grad[4] else None
        return grad_x, None, None, grad_a, grad_b, None, None


def fuse(model: nn.Module) -> int:
    """Compute peft's LoRA layers over linear layers in one operation; returns the number of these layers.

    Calls with anything else (adapter off or merged, dropout, a variant such as DoRA, a base in 4 bits or in training) go to peft.
    """
    from peft.tuners.lora.layer import Linear

    count = 0
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear and not module.fan_in_fan_out:
            module.forward = types.MethodType(_forward, module)  # type: ignore[method-assign]
            count += 1
    return count


def _forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if self.disable_adapters and not (self.merged or args or kwargs):
        return self.base_layer(x)
    name = _plain(self, args, kwargs)
    if name is None:
        return type(self).forward(self, x, *args, **kwargs)
    weight, a, b = self.base_layer.weight, self.lora_A[name].weight, self.lora_B[name].weight
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else weight.dtype
    out = LowRankLinear.apply(x.flatten(0, -2), weight, self.base_layer.bias, a, b, self.scaling[name], dtype)
    return out.unflatten(0, x.shape[:-1])


def _plain(layer: Any, args: Any, kwargs: Any) -> str | None:
    """Name of the layer's only adapter, if the call is nothing but the linear layer and this adapter, else None."""
    names = layer.active_adapters
    if args or kwargs or layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return None
    name = names[0]
    dropout, base = layer.lora_dropout[name], layer.base_layer
    drops = isinstance(dropout, nn.Dropout) and dropout.p > 0 and dropout.training
    standard = isinstance(dropout, (nn.Identity, nn.Dropout))
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    if drops or not standard or trained or name in layer.lora_variant or layer.lora_B[name].bias is not None:
        return None
    return name
