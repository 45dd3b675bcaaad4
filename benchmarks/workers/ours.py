"""This library; the request's options go to `llc.estimate`."""

from cases import Case, serve

import llc


def sample(case: Case, chains: int, steps: int, **options: object) -> list[float]:
    estimate = llc.estimate(
        llc.Task(case.model, case.data, case.loss),
        sampler="sgld",
        step_size=case.step_size,
        gamma=case.gamma,
        n_beta=case.n_beta,
        chains=chains,
        draws=steps,
        burn_in=0,
        batch_size=case.batch_size,
        **options,
    )
    return estimate.trace.mean(1).tolist()


serve(sample)
