"""Loader of models that were registered before it moved to deepfm.artifact.pyfunc."""

from deepfm.artifact.pyfunc import _load_pyfunc

__all__ = ["_load_pyfunc"]
