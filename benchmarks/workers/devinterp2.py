"""devinterp 2.0.1 through its own door for other losses, ``loss_fn`` on a token dataset.

It samples models of token sequences only, and wants one loss a predicted token. So an example
becomes its input tokens and its label, and its loss is given once for each predicted token,
which leaves the mean, and the work, as they are. Real-valued inputs do not fit.
"""

import tempfile
import warnings

import torch
from cases import Case, serve
from datasets import Dataset
from devinterp.slt.llc import llc
from torch import Tensor, nn


def sample(case: Case, chains: int, steps: int) -> list[float]:
    inputs, targets = case.data
    if inputs.is_floating_point():
        raise NotImplementedError("takes token sequences only")
    loss = case.mean_loss

    def loss_fn(model: nn.Module, tokens: Tensor) -> Tensor:
        values = loss(model(tokens[:, :-1]), tokens[:, -1], reduction="none")
        return values[:, None].expand(-1, tokens.shape[1] - 1)

    table = torch.cat([inputs, targets[:, None]], 1).numpy()
    dataset = Dataset.from_dict({"input_ids": table}).with_format("torch")
    with tempfile.TemporaryDirectory() as folder:
        result = llc(
            case.model,
            dataset,
            {},
            lr=case.step_size,
            n_beta=case.n_beta,
            localization=case.gamma,
            num_chains=chains,
            num_draws=steps,
            batch_size=case.batch_size,
            loss_fn=loss_fn,
            device="cpu",
            output_path=f"{folder}/samples.zarr",
        )
        return case.rise(torch.as_tensor(result.loss_trace.values))


warnings.simplefilter("ignore")
serve(sample)
