"""Run the command line: ``python -m mnist_lit``."""

import sys

if __name__ == "__main__":
    try:
        from mnist_lit.cli import main

        main()
    except KeyboardInterrupt:  # while Lightning is imported, say
        sys.exit(130)
