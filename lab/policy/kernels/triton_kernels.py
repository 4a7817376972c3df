"""Triton kernels for norms, gated units and log-probs; each reads its input once and writes its result once.

Numbers are float32 inside, whatever the tensors hold. `lab.policy.kernels.fused` builds operations with gradients on them.
"""

# Triton interprets the annotations of a kernel and supports few.
# ruff: noqa: ANN001, ANN202
import torch
import triton
import triton.language as tl
from torch import Tensor

WIDE = 4096
"""Numbers of a long row that a program handles at a time."""


@triton.jit
def _norm(x, gain, out, scale, columns, eps, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    valid = places < columns
    values = tl.load(x + row * columns + places, mask=valid, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(values * values, 0) / columns + eps)
    tl.store(scale + row, inverse)
    gains = tl.load(gain + places, mask=valid, other=0.0).to(tl.float32)
    tl.store(out + row * columns + places, (values * inverse * gains).to(out.dtype.element_ty), mask=valid)


@triton.jit
def _norm_back(grad, x, gain, scale, grad_x, grad_gain, rows, columns, each, BLOCK: tl.constexpr, TRAINED: tl.constexpr):  # type: ignore[no-untyped-def]
    program = tl.program_id(0)
    places = tl.arange(0, BLOCK)
    valid = places < columns
    gains = tl.load(gain + places, mask=valid, other=0.0).to(tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    start = (program * each).to(tl.int64) * columns + places
    for step in range(0, each):
        inside = valid & (program * each + step < rows)
        row = start + step * columns
        inverse = tl.load(scale + program * each + step, mask=program * each + step < rows, other=0.0)
        unit = tl.load(x + row, mask=inside, other=0.0).to(tl.float32) * inverse
        g = tl.load(grad + row, mask=inside, other=0.0).to(tl.float32)
        if TRAINED:
            total += g * unit
        g = g * gains
        along = tl.sum(g * unit, 0) / columns
        tl.store(grad_x + row, (inverse * (g - unit * along)).to(grad_x.dtype.element_ty), mask=inside)
    if TRAINED:
        tl.store(grad_gain + program * columns + places, total, mask=valid)


@triton.jit
def _gated(gate, up, out, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = places < count
    g = tl.load(gate + places, mask=valid, other=0.0).to(tl.float32)
    u = tl.load(up + places, mask=valid, other=0.0).to(tl.float32)
    tl.store(out + places, (g / (1.0 + tl.exp(-g)) * u).to(out.dtype.element_ty), mask=valid)


@triton.jit
def _gated_back(grad, gate, up, grad_gate, grad_up, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = places < count
    d = tl.load(grad + places, mask=valid, other=0.0).to(tl.float32)
    g = tl.load(gate + places, mask=valid, other=0.0).to(tl.float32)
    u = tl.load(up + places, mask=valid, other=0.0).to(tl.float32)
    s = 1.0 / (1.0 + tl.exp(-g))
    tl.store(grad_up + places, (d * g * s).to(grad_up.dtype.element_ty), mask=valid)
    tl.store(grad_gate + places, (d * u * s * (1.0 + g * (1.0 - s))).to(grad_gate.dtype.element_ty), mask=valid)


@triton.jit
def _pick(logits, targets, picked, normaliser, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * columns
    places = tl.arange(0, BLOCK)
    highest = tl.max(tl.load(start + places, mask=places < columns, other=-float("inf")).to(tl.float32), 0)
    total = 0.0
    for first in range(0, columns, BLOCK):
        values = tl.load(start + first + places, mask=first + places < columns, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(values, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(values - higher), 0)
        highest = higher
    logsum = highest + tl.log(total)
    tl.store(normaliser + row, logsum)
    tl.store(picked + row, tl.load(start + tl.load(targets + row)).to(tl.float32) - logsum)


@triton.jit
def _pick_back(logits, targets, normaliser, credit, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = places < columns
    start = logits + row * columns
    values = tl.load(start + places, mask=valid, other=0.0).to(tl.float32)
    right = places == tl.load(targets + row)
    gradient = (tl.where(right, 1.0, 0.0) - tl.exp(values - tl.load(normaliser + row))) * tl.load(credit + row)
    tl.store(start + places, gradient.to(logits.dtype.element_ty), mask=valid)


def norm(x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the RMS norm of x [N, H] times gain [H], in `dtype`, and the inverse of the root mean square, [N] float32."""
    rows, columns = x.shape
    out, scale = torch.empty_like(x, dtype=dtype), torch.empty(rows, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(columns)
    _norm[(rows,)](x, gain, out, scale, columns, eps, BLOCK=block, num_warps=_warps(block))
    return out, scale


def norm_back(grad: Tensor, x: Tensor, gain: Tensor, scale: Tensor, *, trained: bool) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of `norm` for x [N, H], and for the gain [H] float32 where it is trained."""
    rows, columns = x.shape
    programs = min(rows, 4 * _processors(x.device))
    each = triton.cdiv(rows, programs)
    programs = triton.cdiv(rows, each)
    grad_x = torch.empty_like(x)
    parts = torch.empty(programs if trained else 1, columns, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(columns)
    _norm_back[(programs,)](
        grad, x, gain, scale, grad_x, parts, rows, columns, each, BLOCK=block, TRAINED=trained, num_warps=_warps(block)
    )
    return grad_x, parts.sum(0) if trained else None


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up of two contiguous tensors of one shape."""
    out, count = torch.empty_like(gate), gate.numel()
    _gated[(triton.cdiv(count, 2048),)](gate, up, out, count, BLOCK=2048, num_warps=8)
    return out


def gated_back(grad: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `gated` for gate and up."""
    grad_gate, grad_up, count = torch.empty_like(gate), torch.empty_like(up), gate.numel()
    _gated_back[(triton.cdiv(count, 2048),)](grad, gate, up, grad_gate, grad_up, count, BLOCK=2048, num_warps=8)
    return grad_gate, grad_up


def pick(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return log softmax(logits [N, V])[targets [N]] and the log of the normaliser, both [N] float32."""
    rows, columns = logits.shape
    picked, normaliser = torch.empty(2, rows, dtype=torch.float32, device=logits.device)
    _pick[(rows,)](logits, targets, picked, normaliser, columns, BLOCK=min(WIDE, triton.next_power_of_2(columns)), num_warps=8)
    return picked, normaliser


def pick_back(logits: Tensor, targets: Tensor, normaliser: Tensor, credit: Tensor) -> Tensor:
    """Overwrite the logits by the gradient of sum(credit [N] * picked [N]) with respect to them, and return it."""
    rows, columns = logits.shape
    block = min(WIDE, triton.next_power_of_2(columns))
    _pick_back[(rows, triton.cdiv(columns, block))](logits, targets, normaliser, credit, columns, BLOCK=block, num_warps=8)
    return logits


def _warps(block: int) -> int:
    return max(1, min(16, block // 256))


def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 2
