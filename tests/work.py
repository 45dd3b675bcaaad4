"""Gradients as a measure of work: a refusal spends none, however slow the machine."""

from contextlib import contextmanager
from unittest import mock

import torch

import llc.stack
import llc.surface

__all__ = ["Late", "none_of_it"]


class Late(BaseException):
    """A gradient was computed where a refusal was due; not an error, which would be caught."""


def _late(*_, **__):
    raise Late


@contextmanager
def none_of_it(wanted=True):
    """Stop at the first gradient, whichever way it is computed in this process."""
    if not wanted:
        yield
        return
    with (
        mock.patch.object(torch.autograd, "grad", _late),
        mock.patch.object(torch.Tensor, "backward", _late),
        mock.patch.object(llc.surface, "grad_and_value", _late),
        mock.patch.object(llc.stack, "grad_and_value", _late),
    ):
        yield
