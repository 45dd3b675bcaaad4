"""One transition kernel a file; each exposes ``State``, ``build`` and nothing else."""
