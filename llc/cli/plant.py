"""``rlct plant``: exceptions learned by heart, and the LLC against their number."""

from typing import TYPE_CHECKING

from llc.checkpoints import load_weights
from llc.cli.tracing import blueprint_of
from llc.cli.variants import chosen_settings, refuse_unsuited, trace_variants
from llc.planting import plant
from llc.progress import Bar

if TYPE_CHECKING:
    from llc.cli.options import Plant as Options

__all__ = ["run"]

COLUMNS = (
    "examples_fitted", "relabelled_loss", "planting_steps", "train_accuracy", "test_accuracy",
    "weight_norm",
)  # fmt: skip


def run(options: "Options") -> int:
    """Fine-tune once for each number of exceptions, trace, print and chart."""
    settings = chosen_settings(options)
    weights = load_weights(options.checkpoint, options.entry, options.drop)
    blueprint = blueprint_of(options)
    task = blueprint().at(weights)
    refuse_unsuited(task, settings)
    with Bar("plant") as report:
        made = plant(
            task,
            options.exceptions,
            out=options.out / "checkpoints",
            report=lambda count, done, most: report(f"k = {count}", done, most),
            steps=options.steps,
            most_steps=options.most_steps,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            train_batch=options.train_batch,
            loss_below=options.loss_below,
            seed=settings.seed,
        )
    steps = [variant.step for variant in made]
    return trace_variants(options, blueprint, settings, steps, "planted", COLUMNS)
