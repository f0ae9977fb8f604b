"""Linear layers whose float32 products on a CPU are oneDNN's, torch's other library for them.

By default torch takes MKL's, which on AMD's processors use half of what these can do (95 against
220 GFlop/s, one core of an EPYC). torch offers no switch between the two in full float32, but has
oneDNN's product as an operator of its compiler. Small products stay with torch: calling oneDNN's
and its gradient from Python takes 0.2 ms longer, three times as long as the whole of them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FEW = 2**23  # multiplications, below which calling oneDNN costs more than it saves

try:
    _product = torch.ops.mkldnn._linear_pointwise
except AttributeError:  # a torch built without oneDNN
    _product = None


class Linear(nn.Linear):
    """As `torch.nn.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, but differentiable once.

    x: (..., n_in); weight: (n_out, n_in); bias: (n_out,)
    """
    fits = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.shape[-1] > 0
    is_stacked = torch._C._functorch.is_batchedtensor(weight)  # by torch.func.vmap
    is_small = x.numel() * len(weight) < _FEW
    if _product is None or not fits or is_stacked or is_small:
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, bias):
        return _times(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx, upstream):
        if torch.is_grad_enabled():  # oneDNN's operator has no derivative of its own
            why = "differentiable once; for second derivatives take torch.nn.functional.linear"
            raise RuntimeError(f"linear: {why}")
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = upstream.reshape(-1, len(weight))
        return (
            _times(rows, weight.t()).view(x.shape) if of_x else None,
            _transposed_times(rows, x.reshape(-1, x.shape[-1])) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _times(x, weight, bias=None):
    """x @ weight.T + bias, of matrices without gaps.

    On a part of a wider matrix oneDNN has a thousandth of its speed.
    """
    x, weight = (m if m.t().is_contiguous() else m.contiguous() for m in (x, weight))
    return _product(x, weight, bias, "none", [], "")


def _transposed_times(left, right):
    """left.T @ right, in the order in which the longer side comes out as columns."""
    if left.shape[1] > right.shape[1]:
        return _times(right.t(), left.t()).t()
    return _times(left.t(), right.t())
