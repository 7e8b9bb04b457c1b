"""Hypothesis looks for a shape, layout, dtype, slope or subset of gradients that breaks the tolerance rule."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from cases import (
    ACTIVATION_NAMES,
    DTYPES,
    Layouts,
    Shape,
    arguments,
    contiguous,
    every_second,
    one_value,
    rows_apart,
    same_columns,
    same_rows,
    transposed,
)
from hypothesis import given, settings
from tolerance import assert_equivalent, first_order, gradient_penalty, operators

LUCK = 8  # of stock's: among thousands of cases, many of a handful of values, some have it right by chance
MATRIX_LAYOUTS = [contiguous, transposed, rows_apart, every_second, same_rows, same_columns, one_value]
sizes = st.integers(0, 130)
leading = st.lists(st.integers(0, 12), max_size=3).map(tuple) | sizes.map(lambda rows: (rows,))
activations = st.sampled_from(ACTIVATION_NAMES)
slopes = st.sampled_from([0.0, 0.01, 1.0]) | st.floats(0, 3)


@st.composite
def calls(draw: st.DrawFn, dtypes: list[torch.dtype] = DTYPES) -> dict[str, Any]:
    """Arguments of `assert_equivalent` but the program and the device."""
    shape = Shape(draw(leading), draw(sizes), draw(sizes))
    nothing = 0 in (*shape.leading, shape.in_features, shape.out_features)
    of_matrix = st.just(contiguous) if nothing else st.sampled_from(MATRIX_LAYOUTS)
    of_vector = st.just(contiguous) if nothing else st.sampled_from([contiguous, rows_apart, every_second, one_value])
    of_input = of_matrix if shape.leading else of_vector
    layouts = Layouts(draw(of_input), draw(of_matrix), draw(of_vector), draw(of_input))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    args = arguments(shape, draw(st.sampled_from(dtypes)), layouts=layouts, bias=draw(st.booleans()))
    return {"args": args, "activation": draw(activations), "slope": draw(slopes)}


@settings(max_examples=200)
@given(call=calls([torch.float32, torch.bfloat16, torch.float16]))
def test_first_order(call: dict[str, Any]) -> None:
    assert_equivalent(first_order, luck=LUCK, **call)


@settings(max_examples=60)
@given(call=calls([torch.float64]))
def test_first_order_in_float64(call: dict[str, Any]) -> None:
    assert_equivalent(first_order, luck=LUCK, **call)


@settings(max_examples=100)
@given(call=calls([torch.float32]), wanted=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_first_order_of_subsets(call: dict[str, Any], wanted: tuple[bool, bool, bool]) -> None:
    assert_equivalent(first_order, luck=LUCK, **call, wanted=wanted)


@settings(max_examples=150)
@given(call=calls([torch.float32]))
def test_second_order(call: dict[str, Any]) -> None:
    assert_equivalent(gradient_penalty, luck=LUCK, **call)


@settings(max_examples=100)
@given(call=calls())
def test_arguments_are_left_as_they_are(call: dict[str, Any]) -> None:
    """Neither forward nor backward writes into its arguments, or hands one of them back."""
    args = call["args"]
    before = [None if tensor is None else tensor.clone() for tensor in args]
    results = first_order(operators(call["activation"], call["slope"])[0], args)
    for tensor, copy in zip(args, before, strict=True):
        assert tensor is None or torch.equal(tensor, copy)
    addresses = {tensor.data_ptr() for tensor in args if tensor is not None and tensor.numel()}
    for name, result in results.items():
        assert result is None or not result.numel() or result.data_ptr() not in addresses, name
