from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from my_project.model.lstm import LSTM, left_align
from train_smarter import Classification
from train_smarter.errors import UserError

SHAPES = [{"bidirectional": b, "num_layers": n} for b in (False, True) for n in (1, 2)]
POOLINGS = ["last", "max", "mean"]
TEXTS: tuple[list[int], ...] = ([5, 3, 9, 1], [7], [2, 4, 6, 8, 3, 5], [])


def lstm(**switches: Any) -> LSTM:
    torch.manual_seed(0)
    small = {"vocab_size": 10, "embedding_dim": 6, "hidden": 5, "fc_dim": 4}
    model = LSTM(**{"task": Classification(num_classes=2), **small, **switches})
    return model.eval()


def padded(text: list[int], *, left: int = 0, right: int = 0) -> Tensor:
    return torch.tensor([[0] * left + text + [0] * right])


def test_the_articles_network_has_1420417_parameters() -> None:
    model = LSTM(vocab_size=10_000, task=Classification(num_classes=2))
    # embedding 10,000 * 128, LSTM 4 gates of (128 + 128) * 128 weights and 2 * 128 biases, dense 128 * 64 + 64 and
    # 64 + 1: 1,280,000 + 132,096 + 8,256 + 65
    assert sum(p.numel() for p in model.parameters()) == 1_420_417


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_padding_does_not_reach_the_result(shape: dict[str, Any], pooling: str) -> None:
    model = lstm(pooling=pooling, **shape)
    for text in TEXTS[:3]:
        plain = model(padded(text))
        for left, right in ((0, 1), (0, 7), (1, 0), (7, 0), (3, 2)):
            torch.testing.assert_close(model(padded(text, left=left, right=right)), plain, atol=1e-6, rtol=0)


def test_words_come_to_the_front_in_their_order_from_wherever_they_stand() -> None:
    tokens, lengths = left_align(torch.tensor([[0, 5, 0, 0, 3, 5], [4, 0, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]]))
    assert tokens.tolist() == [[5, 3, 5, 0, 0, 0], [4, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert lengths.tolist() == [3, 2, 1]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_has_the_same_logit_alone_and_among_others(shape: dict[str, Any], pooling: str) -> None:
    model = lstm(pooling=pooling, **shape)
    together = model(torch.cat([padded(text, right=6 - len(text)) for text in TEXTS]))
    alone = torch.cat([model(padded(text, right=6 - len(text))) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_text_has_a_finite_logit_and_gradient(shape: dict[str, Any], pooling: str) -> None:
    model = lstm(pooling=pooling, **shape)
    logit = model(padded([], right=6))
    logit.sum().backward()
    assert logit.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_both_directions_agree_with_torchs_packed_lstm(pooling: str) -> None:
    model = lstm(pooling=pooling, bidirectional=True)
    theirs = nn.LSTM(6, 5, bidirectional=True)
    forward, backward = (model.layers.get_submodule(f"0.{direction}").state_dict() for direction in (0, 1))
    theirs.load_state_dict(forward | {f"{name}_reverse": weight for name, weight in backward.items()})

    tokens = torch.cat([padded(text, right=6 - len(text)) for text in TEXTS[:3]])
    lengths = torch.tensor([4, 1, 6])
    packed = pack_padded_sequence(model.embedding(tokens.T), lengths, enforce_sorted=False)
    read, (states, _) = theirs(packed)
    features = [row[:n] for row, n in zip(pad_packed_sequence(read, batch_first=True)[0], lengths, strict=True)]
    expected = {
        "last": torch.cat([states[0], states[1]], 1),
        "max": torch.stack([row.max(0).values for row in features]),
        "mean": torch.stack([row.mean(0) for row in features]),
    }[pooling]
    torch.testing.assert_close(model(tokens), model.head(expected), atol=1e-6, rtol=0)


def test_the_order_of_words_matters_and_so_does_the_pooling() -> None:
    text = padded([5, 3, 9, 1])
    logits = [lstm(pooling=pooling)(tokens).item() for pooling in POOLINGS for tokens in (text, text.flip(1))]
    assert len({round(logit, 6) for logit in logits}) == 6


def test_padding_is_a_row_of_zeros_that_is_never_trained() -> None:
    model = lstm()
    model(padded([5, 3], right=2)).sum().backward()
    assert isinstance(model.embedding.weight.grad, Tensor)
    assert not model.embedding.weight[0].any()
    assert not model.embedding.weight.grad[0].any()
    assert model.embedding.weight.grad[5].any()


def test_dropout_is_before_the_last_layer_in_training_alone() -> None:
    text = padded([5, 3, 9, 1])
    assert torch.equal(lstm(dropout=0.5)(text), lstm(dropout=0.0)(text))
    # With everything dropped, only the last layer's bias is left.
    everything = lstm(dropout=1.0).train()
    assert torch.equal(everything(text)[0], everything.head.get_parameter("3.bias"))


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_is_on_the_lstms_input_in_training_alone(shape: dict[str, Any]) -> None:
    model = lstm(dropout=1.0, **shape).train()
    model.head.eval()
    # With every feature of every word dropped, texts differ by their lengths alone.
    assert torch.equal(model(padded([5, 3, 9])), model(padded([2, 7, 4])))
    assert not torch.equal(model(padded([5, 3, 9])), model(padded([5, 3, 9, 1])))
    assert not torch.equal(model.eval()(padded([5, 3, 9])), model(padded([2, 7, 4])))


def test_more_than_two_classes_make_a_logit_each() -> None:
    assert lstm(task=Classification(num_classes=3))(padded([5, 3])).shape == (1, 3)
    assert lstm()(padded([5, 3])).shape == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"pooling": "first"}, "model.pooling=first is none of last, max, mean"), ({"num_layers": 0}, "num_layers=0")],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        lstm(**wrong)
