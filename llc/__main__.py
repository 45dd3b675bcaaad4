"""``python -m llc`` is ``rlct``."""

from llc.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
