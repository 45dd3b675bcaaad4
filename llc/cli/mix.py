"""``rlct mix``: straight mixtures of two checkpoints, and the LLC against the mixing weight."""

from typing import TYPE_CHECKING

from llc.checkpoints import load_weights
from llc.cli.tracing import blueprint_of
from llc.cli.variants import chosen_settings, refuse_unsuited, trace_variants
from llc.planting import interpolants

if TYPE_CHECKING:
    from llc.cli.options import Mix as Options

__all__ = ["run"]

COLUMNS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm")


def run(options: "Options") -> int:
    """Mix, trace, print and chart."""
    settings = chosen_settings(options)
    one, other = (load_weights(path, options.entry, options.drop) for path in options.checkpoints)
    # What does not fit the model is said before anything is written.
    blueprint = blueprint_of(options)
    refuse_unsuited(blueprint().at(one), settings)
    made = interpolants(one, other, options.weights, out=options.out / "checkpoints")
    steps = [variant.step for variant in made]
    return trace_variants(options, blueprint, settings, steps, "mixing_weight", COLUMNS)
