import pytest
import torch
import torch.nn.functional as F

from lib.neural import linear as module
from lib.neural.linear import Linear, linear


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    """oneDNN's products at the sizes of these tests too."""
    monkeypatch.setattr(module, "_FEW", 1)


def inputs(shape, n_out, bias=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(s, generator=generator, dtype=dtype)
        for s in (shape, (n_out, shape[-1]), (n_out,))
    ]
    return [t.requires_grad_() for t in made[: 2 + bias]]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "n_out"),
    [
        ((64, 20), 7),
        ((64, 7), 50),
        ((1, 20), 7),
        ((3, 64, 20), 5),
        ((2, 3, 4, 6), 9),
        ((64, 1), 1),
        ((0, 20), 7),
    ],
)
def test_value_and_gradients_are_those_of_torch_in_double(shape, n_out, bias):
    given = inputs(shape, n_out, bias)
    exact = [t.detach().double().requires_grad_() for t in given]
    value, expected = linear(*given), F.linear(*exact)
    assert value.shape == expected.shape and value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
    for gradient, of_exact in zip(
        torch.autograd.grad(value, given, upstream),
        torch.autograd.grad(expected, exact, upstream.double()),
    ):
        torch.testing.assert_close(gradient.double(), of_exact, rtol=1e-4, atol=1e-4)


def test_of_views_that_do_not_lie_in_a_row():
    x, weight, bias = inputs((64, 20), 7)
    wide = torch.cat([weight, weight], dim=1)
    torch.testing.assert_close(
        linear(x[::2], wide.chunk(2, dim=1)[0], bias),
        F.linear(x[::2], weight, bias),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        linear(x.t().contiguous().t(), weight, bias),
        F.linear(x, weight, bias),
        rtol=1e-4,
        atol=1e-5,
    )


def test_only_what_asks_for_a_gradient_gets_one():
    x, weight, bias = inputs((64, 20), 7)
    linear(x.detach(), weight, bias).sum().backward()
    assert x.grad is None and weight.grad is not None and bias.grad is not None


def test_a_second_derivative_is_refused():
    x, weight, bias = inputs((64, 20), 7)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(linear(x, weight, bias).square().sum(), x, create_graph=True)


def test_other_numbers_are_left_to_torch():
    given = inputs((64, 20), 7, dtype=torch.float64)
    assert torch.equal(linear(*given), F.linear(*given))


def test_small_products_are_left_to_torch(monkeypatch):
    monkeypatch.undo()
    small = inputs((64, 20), 7)
    assert torch.equal(linear(*small), F.linear(*small))
    torch.autograd.grad(linear(*small).square().sum(), small[0], create_graph=True)
    large = inputs((512, 128), 128)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(linear(*large).square().sum(), large[0], create_graph=True)


def test_layers_stacked_have_the_values_and_gradients_of_each():
    each = [[t.detach() + i for t in inputs((64, 20), 7)] for i in range(3)]
    stacked = [torch.stack(t).requires_grad_() for t in zip(*each)]
    value = torch.func.vmap(linear)(*stacked)
    gradients = torch.autograd.grad(value.square().sum(), stacked)
    for i, one in enumerate(each):
        one = [t.requires_grad_() for t in one]
        alone = F.linear(*one)
        torch.testing.assert_close(value[i], alone, rtol=1e-4, atol=1e-4)
        for gradient, expected in zip(gradients, torch.autograd.grad(alone.square().sum(), one)):
            torch.testing.assert_close(gradient[i], expected, rtol=1e-3, atol=1e-2)


def test_stacked_layers_with_samples_a_cell_and_without_a_bias():
    x, weight = torch.randn(3, 5, 64, 20), torch.randn(3, 7, 20)
    value = torch.func.vmap(linear)(x, weight)
    torch.testing.assert_close(
        value, torch.stack([F.linear(a, w) for a, w in zip(x, weight)]), rtol=1e-4, atol=1e-4
    )


def test_a_layer_is_that_of_torch_and_shares_its_checkpoints():
    ours, torchs = Linear(20, 7), torch.nn.Linear(20, 7)
    ours.load_state_dict(torchs.state_dict())
    x = torch.randn(64, 20)
    torch.testing.assert_close(ours(x), torchs(x), rtol=1e-4, atol=1e-5)
