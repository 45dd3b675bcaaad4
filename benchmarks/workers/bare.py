"""Forward and backward alone, one chain after another, batches indexed in memory: the floor."""

import torch
from cases import Case, serve


def sample(case: Case, chains: int, steps: int) -> list[float]:
    loss, (inputs, targets) = case.mean_loss, case.data
    for _ in range(chains * steps):
        index = torch.randint(len(inputs), (case.batch_size,))
        case.model.zero_grad()
        loss(case.model(inputs[index]), targets[index]).backward()
    return [0.0] * chains


serve(sample)
