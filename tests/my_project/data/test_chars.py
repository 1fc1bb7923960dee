from pathlib import Path

import pytest
import torch

from my_project.data.chars import ALPHABET, Chars, encode


def chars() -> Chars:
    data = Chars(vocab_size=96, length=16, characters=20_000, block=8, val_fraction=0.2, test_fraction=0.2)
    data.setup()
    return data


def spelled(tokens: torch.Tensor) -> str:
    return "".join(ALPHABET[token] for token in tokens.tolist())


def test_a_text_is_its_places_in_the_alphabet() -> None:
    assert len(ALPHABET) == 96
    assert spelled(encode('a "Z"~\n')) == 'a "Z"~\n'
    assert spelled(encode("naïve\t")) == "na?ve?"


def test_targets_are_the_characters_that_follow() -> None:
    for examples in chars().examples.values():
        assert examples.inputs[:, 1:].equal(examples.targets[:, :-1])


def test_windows_follow_each_other_without_overlap() -> None:
    source = chars().read()
    assert len(source.train) == 20_000 // 16
    assert source.train.inputs[1:, 0].equal(source.train.targets[:-1, -1])


def test_no_block_of_windows_is_in_two_splits() -> None:
    data = chars()
    source = data.read()
    assert source.groups is not None
    blocks: dict[str, set[int]] = {}
    for row, group in zip(source.train.inputs, source.groups.tolist(), strict=True):
        blocks.setdefault(spelled(row), set()).add(group)
    found = []
    for examples in data.examples.values():
        homes = [blocks[spelled(row)] for row in examples.inputs]
        found.append(set.union(*(home for home in homes if len(home) == 1)))  # some windows occur in several blocks
    assert sum(map(len, found)) == len(set.union(*found))
    assert sum(len(examples) for examples in data.examples.values()) == len(source.train)


def test_a_text_or_each_line_of_a_file_is_a_prompt(tmp_path: Path) -> None:
    data = chars()
    (tmp_path / "prompts.txt").write_text("The class\n\nA naïve one\n", encoding="utf8")
    (one,) = (data.load_input(source) for source in data.iter_inputs("The class statement"))
    assert one.id_columns == {"line": 1, "input": "The class statement"}
    assert spelled(one.content) == "The class statement"
    first, empty, last = data.iter_inputs(str(tmp_path / "prompts.txt"))
    assert spelled(data.load_input(first).content) == "The class"
    assert spelled(data.load_input(last).content) == "A na?ve one"
    with pytest.raises(ValueError, match="it is empty"):
        data.load_input(empty)
