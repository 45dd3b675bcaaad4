"""devinterp 1.3.2 as its users run it: DataLoader, SGLD, one chain after another."""

import warnings

import torch
from cases import Case, serve
from devinterp.optim import SGLD
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from torch.utils.data import DataLoader, RandomSampler, TensorDataset


def sample(case: Case, chains: int, steps: int, replacement: bool = False) -> list[float]:
    loss, data = case.mean_loss, TensorDataset(*case.data)
    sampler = RandomSampler(data, replacement=replacement)  # False is shuffle=True
    # Without the ragged last batch, so that every step is the same work.
    loader = DataLoader(data, batch_size=case.batch_size, sampler=sampler, drop_last=True)
    result = estimate_learning_coeff_with_summary(
        case.model,
        loader,
        evaluate=lambda model, batch: loss(model(batch[0]), batch[1]),
        sampling_method=SGLD,
        optimizer_kwargs={
            "lr": case.step_size,
            "nbeta": case.n_beta,
            "localization": case.gamma,
        },
        num_draws=steps,
        num_chains=chains,
        num_burnin_steps=0,
        num_steps_bw_draws=1,
        cores=1,
        seed=0,
        device="cpu",
        verbose=False,
    )
    return case.rise(torch.as_tensor(result["loss/trace"]))


warnings.simplefilter("ignore")
serve(sample)
