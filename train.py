"""Train one stage on one fold, or sweep with -m. `python train.py --help` says how."""

from hep2.programs.train import main

if __name__ == "__main__":
    main()
