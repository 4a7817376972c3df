"""Norms, gated units and the log-probs of a vocabulary as one operation each on a GPU, forward and backward.

As separate operations they read and write tensors of the size of the activations, or of the logits, a dozen times and keep copies
for the backward pass, which takes longer than the matrix products between them. `fuse` sets them on a model's own modules
where they give the same result up to rounding: float32 inside, the result in the type of the next matrix product. Without
Triton, and on the CPU, nothing changes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

TOLERANCE = 0.02
"""Largest difference from a module's own result that bfloat16 rounding explains, relative to its largest number."""
CHUNK_ELEMENTS = 1 << 27
"""Number of logits held at a time (bfloat16: 256 MiB); with fewer, most of a GPU is idle in the products with the vocabulary."""


def available(device: torch.device) -> bool:
    """Return whether Triton can compute on a device."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


class Norm(torch.autograd.Function):
    """RMS norm: x [N, H] divided by its root mean square, times a gain [H], in `dtype`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        """Compute the norm of x."""
        from . import triton_kernels

        x = x.contiguous()
        out, scale = triton_kernels.norm(x, gain, eps, dtype)
        ctx.save_for_backward(x, gain, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of x and gain."""
        from . import triton_kernels

        x, gain, scale = ctx.saved_tensors
        grad_x, grad_gain = triton_kernels.norm_back(grad.contiguous(), x, gain, scale, trained=ctx.needs_input_grad[1])
        return grad_x, None if grad_gain is None else grad_gain.to(gain.dtype), None, None


class Gated(torch.autograd.Function):
    """Gated unit silu(gate) * up, of tensors of one shape."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Compute the product."""
        from . import triton_kernels

        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return triton_kernels.gated(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradients of gate and up."""
        from . import triton_kernels

        return triton_kernels.gated_back(grad.contiguous(), *ctx.saved_tensors)


class Picked(torch.autograd.Function):
    """Log-probs log softmax(states [M, H] weight' [H, V])[targets [M]] in float32, `size` tokens at a time.

    Logits are held for one part at a time, in the type of the products. Where the weight is not trained, the gradient of the states
    is the loss's gradient times a vector that is computed from the same logits in the forward pass; otherwise the backward pass
    recomputes the logits.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, size: int, dtype: torch.dtype) -> Tensor:
        """Compute the log-probs, [M]."""
        from . import triton_kernels

        narrow, table = states.to(dtype), weight.to(dtype)
        picked = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        normaliser = torch.empty_like(picked)
        gradient = torch.empty_like(narrow) if ctx.needs_input_grad[0] and not ctx.needs_input_grad[1] else None
        ones = torch.ones_like(picked)
        with torch.autocast(states.device.type, enabled=False):
            for start in range(0, len(targets), size):
                part = slice(start, start + size)
                logits = narrow[part] @ table.t()
                picked[part], normaliser[part] = triton_kernels.pick(logits, targets[part])
                if gradient is not None:
                    triton_kernels.pick_back(logits, targets[part], normaliser[part], ones[part])
                    torch.mm(logits, table, out=gradient[part])
                del logits
        ctx.size, ctx.types = size, (states.dtype, weight.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        elif any(ctx.needs_input_grad):
            ctx.save_for_backward(narrow, table, targets, normaliser)
        return picked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of states and weight."""
        from . import triton_kernels

        of_states, of_weight = ctx.types
        if len(ctx.saved_tensors) == 1:
            return (ctx.saved_tensors[0] * grad[:, None]).to(of_states), None, None, None, None
        narrow, table, targets, normaliser = ctx.saved_tensors
        grad = grad.contiguous()
        grad_states = torch.empty_like(narrow) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(table)
        for start in range(0, len(targets), ctx.size):
            part = slice(start, start + ctx.size)
            logits = narrow[part] @ table.t()
            triton_kernels.pick_back(logits, targets[part], normaliser[part], grad[part])
            if grad_states is not None:
                torch.mm(logits, table, out=grad_states[part])
            grad_weight.addmm_(logits.t(), narrow[part])
            del logits
        return None if grad_states is None else grad_states.to(of_states), grad_weight.to(of_weight), None, None, None


def product_type(x: Tensor, weight: Tensor) -> torch.dtype:
    """Return the type in which a matrix product of the two is computed."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.promote_types(x.dtype, weight.dtype)


def fused_logps(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Compute log softmax(states [M, H] weight' [H, V])[targets [M]], float32 nats, on a GPU."""
    size = max(CHUNK_ELEMENTS // weight.shape[0], 1)
    return Picked.apply(states, weight, targets, size, product_type(states, weight))


def _norm_forward(self: Any, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    return Norm.apply(rows, self.weight, self.lab_eps, product_type(x, self.weight)).view(x.shape)


def _gated_forward(self: Any, x: Tensor) -> Tensor:
    gate, up = self.gate_proj(x), self.up_proj(x)
    product = Gated.apply(gate, up)
    with _product_again(product, gate, up) if self.lab_recompute else contextlib.nullcontext():
        return self.down_proj(product)


def _product_again(product: Tensor, gate: Tensor, up: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Recompute the product in the backward pass of the block from gate and up, which are kept anyway.

    This saves a fifth of a layer's activations.
    """
    place, count, dtype = product.data_ptr(), product.numel(), product.dtype
    gate, up = gate.detach(), up.detach()

    def pack(tensor: Tensor) -> Any:
        if (tensor.data_ptr(), tensor.numel(), tensor.dtype) == (place, count, dtype):
            return tensor.shape
        return tensor

    def unpack(kept: Any) -> Tensor:
        from . import triton_kernels

        return kept if isinstance(kept, Tensor) else triton_kernels.gated(gate.contiguous(), up.contiguous()).view(kept)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def fuse(model: nn.Module, *, recompute: bool) -> dict[str, int]:
    """Fuse a model's norms and gated units; returns the number of modules of each kind that now use the fused operation.

    A module is recognised by its attributes (a gain [H] and an epsilon; gate_proj, up_proj and down_proj) and compared on
    random numbers with its own result; it stays unchanged where they differ (Gemma's norm adds one to its gain, some units do
    not use silu).

    Args:
        model: A transformers model.
        recompute: Recompute products of gated units in the backward pass; of no use where whole layers are recomputed.
    """
    counts = {"norms": 0, "units": 0}
    parameter = next(model.parameters())
    hidden = int(getattr(model.config.get_text_config(), "hidden_size", 0))  # type: ignore[union-attr, operator]
    agreed: dict[type, bool] = {}
    # With a mean of 1, so that a norm that subtracts the mean gives another result.
    x = torch.randn(4, hidden, generator=torch.Generator().manual_seed(0)).add_(1).to(parameter)
    for module in model.modules():
        kind = type(module)
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        gain = getattr(module, "weight", None)
        if (
            isinstance(eps, float)
            and isinstance(gain, Tensor)
            and gain.shape == (hidden,)
            and getattr(module, "bias", None) is None
        ):
            name, forward = "norms", _norm_forward
            module.lab_eps = eps  # type: ignore[assignment]
        elif all(isinstance(getattr(module, part, None), nn.Module) for part in ("gate_proj", "up_proj", "down_proj")):
            name, forward = "units", _gated_forward
            module.lab_recompute = recompute  # type: ignore[assignment]
        else:
            continue
        if kind not in agreed:
            agreed[kind] = _agrees(module, forward, x)
        if agreed[kind]:
            module.forward = types.MethodType(forward, module)
            counts[name] += 1
    return counts


def _agrees(module: nn.Module, forward: Any, x: Tensor) -> bool:
    with torch.no_grad():
        try:
            own, other = module(x), forward(module, x)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            return False
    if own.shape != other.shape:
        return False
    return bool((own.float() - other.float()).abs().max() <= TOLERANCE * own.float().abs().max())
