"""Language models and their tokens; transformers and datasets are imported only when used."""
