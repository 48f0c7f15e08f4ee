"""One line -> its values, as in a batch of lines; batches are tested with what parse makes of them."""

from deepfm.features.line_columns import split_line


def test_a_line_is_split_alone_as_in_a_batch():
    assert split_line('a,"b,c"', ",", '"') == ["a", "b,c"]
    assert split_line('a,"b,c"', ",", None) == ["a", '"b', 'c"']
    assert split_line('a,"b', ",", '"') == []
