"""The tree that devinterp 2's sampler writes, made of arrays: names, dimensions, attributes.

devinterp is not imported: what its ``compute_llc``, ``compute_bif`` and
``compute_susceptibilities`` read is laid out here as its ``sample`` lays it out (2.0.1).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import llc
from llc.errors import InputError
from llc.estimation import Estimate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["draws_tree", "estimate_tree", "identifier", "observable"]

MICRO = ("chain", "step", "batch_sampling", "token_pos")
DRAWS = ("chain", "draw", "batch", "token_pos")


def draws_tree(
    estimate: Estimate,
    baseline: NDArray,
    losses: NDArray,
    tokens: NDArray | None,
    observables: Mapping[str, tuple[NDArray, NDArray]],
) -> "xr.DataTree":
    """Lay out losses by token as devinterp does.

    Args:
        estimate: whose chains they are of.
        baseline: loss at w* by position, of the very sequences of ``losses``: ``(token,)``.
        losses: of the sampling data, ``(chain, draw, sequence, token)``.
        tokens: their sequences, ``(sequence, token + 1)``; None where they are not known.
        observables: name → losses ``(chain, draw, sequence, token)`` and sequences.
    """
    import xarray as xr

    chains, draws, sequences, positions = losses.shape
    values: dict[str, Any] = {
        "init_loss": (("chain", "token_pos"), np.tile(baseline, (chains, 1))),
        "sampling_loss": (DRAWS, losses),
        # The same once more: every step of these chains that is told of is a draw.
        "sampling_loss_micro": (MICRO, losses),
    }
    chunks = dict.fromkeys(list(values)[1:], (1, draws, sequences, positions))
    if tokens is not None:
        shape = (chains, draws, *tokens.shape)
        # A view: the same sequences at every step take no memory, and compress to nothing.
        every = np.broadcast_to(tokens, shape)
        values["sampling_input_ids_micro"] = ((*MICRO[:3], "token"), every)
        chunks["sampling_input_ids_micro"] = (1, 1, *tokens.shape)
    for name, (found, inputs) in observables.items():
        batch = f"batch_{name}"
        values[f"loss_{name}"] = (("chain", "draw", batch, "token_pos"), found)
        values[f"input_ids_{name}"] = ((batch, "token"), inputs)
        chunks[f"loss_{name}"] = (1, *found.shape[1:])
    config = {
        "sampler": _sampler(estimate, chains, draws, sequences),
        "observables": [
            {"type": "ObserveDifferentDataset", "obs_id": name, "batches_per_draw": 1}
            for name in observables
        ],
        "chain_buffer_size": draws,
        "shared_observable_dims": ["token", "token_pos"],
        "tokenizer_context_length": positions + 1,
    }
    attributes = {
        "metadata": {"config": config},
        "completed": 1,
        "llc_toolkit": {"version": llc.__version__, "estimate": estimate.to_dict()},
    }
    dataset = xr.Dataset(values, attrs=attributes)
    for name, chunk in chunks.items():
        dataset[name].encoding["chunks"] = chunk
    return xr.DataTree(dataset)


def estimate_tree(estimate: Estimate) -> "xr.DataTree":
    """Lay out the draws of an estimate as devinterp does, with one loss a draw.

    L(w*) + X/nβ stands for the loss of each draw, X = nβ(L_B(w) − L_B(w*)), and L(w*) for that at
    w*: paired, without burn-in and without chains that left for infinity, so that devinterp's
    ``compute_llc`` returns λ̂. There are no losses by token, hence no observables: for influence
    functions and susceptibilities see `llc.interop.token_draws`.

    Raises:
        InputError: every chain left for infinity.
    """
    kept = [c for c in range(len(estimate.trace)) if c not in estimate.diverged]
    if not kept:
        raise InputError(f"there are no draws to write: {estimate.verdict.sentences[0]}")
    rise = estimate.trace[kept] / (estimate.settings.n_beta or np.nan)
    losses = estimate.baseline + rise[:, :, None, None]
    return draws_tree(estimate, np.array([estimate.baseline]), losses, None, {})


def identifier(name: str) -> str:
    """Return the identifier that devinterp makes of an observable's name."""
    found = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return f"_{found}" if found[:1].isdigit() else found or "_"


def observable(name: str, taken: Mapping[str, Any]) -> str:
    """Return an observable's identifier.

    Raises:
        InputError: another observable has it already.
    """
    found = identifier(name)
    if found in taken:
        raise InputError(
            f"observable {name!r} is called {found!r} in the file, as another one is: give them "
            "names that differ in letters or digits"
        )
    return found


def _sampler(estimate: Estimate, chains: int, draws: int, sequences: int) -> dict[str, Any]:
    """Name our settings as devinterp names its own."""
    settings = estimate.settings
    return {
        "lr": settings.step_size,
        "n_beta": settings.n_beta,
        "batch_size": sequences,
        "num_chains": chains,
        "num_draws": draws,
        # What came before is not among the steps: devinterp would average it in.
        "num_burnin_steps": 0,
        "num_steps_bw_draws": 1,
        "gradient_accumulation_steps": 1,
        "num_init_loss_batches": 1,
        "init_seed": settings.seed,
        "localization": settings.gamma,
        "noise_level": 1.0,
        "llc_weight_decay": 0.0,
        "bounding_box_size": None,
        "sampling_method": settings.sampler,
        "sampling_method_kwargs": {},
        "init_noise": None,
        "save_metrics": False,
        "shuffle": True,
        "epoch_mode": "cycle",
        "match_sampling_input_ids_across_chains": True,
        "scheduler_type": "constant",
        "scheduler_kwargs": None,
        "cores": 1,
        "online": False,
    }
