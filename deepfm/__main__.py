"""`python -m deepfm doctor`: checks that must run where the jobs cannot."""

from deepfm.cli.doctor import run

if __name__ == "__main__":
    run()
