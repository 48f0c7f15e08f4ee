"""The models: torch only, one file per paper. Shapes: B impressions, F fields, K embedding dimension."""
