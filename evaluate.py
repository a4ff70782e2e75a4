"""Finished runs put to use, and the audit of a split. `python evaluate.py --help` says how."""

from hep2.programs.evaluate import main

if __name__ == "__main__":
    main()
