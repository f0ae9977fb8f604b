import pytest
import torch

from lib import training


def test_auto_takes_cuda_where_there_is_one():
    assert training.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert training.pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_cuda_raises_one_line(device):
    with pytest.raises(ValueError, match=f"device = '{device}'.*no CUDA") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["nonsense", "meta", "", None])
def test_a_device_that_it_cannot_train_on_raises_one_line(device):
    with pytest.raises(ValueError, match="device = ") as error:
        training.pick_device(device)
    assert "\n" not in str(error.value)
