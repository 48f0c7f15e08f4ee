"""A registered model over a night's impressions, published whole or not at all."""
