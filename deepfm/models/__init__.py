"""Models, one file per paper, with PyTorch only. Shapes: B impressions, F fields, K embedding dimension."""
