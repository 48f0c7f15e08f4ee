"""`python -m deepfm.synthetic`: write a synthetic click log."""

from deepfm.cli.synthetic import run

if __name__ == "__main__":
    run()
