"""Programs that answer as others would."""

import pytest


@pytest.fixture
def program(tmp_path):
    """program("java", 'echo …') -> the folder of a small script of that name."""

    def write(name, script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder

    return write
