"""A registered model applied to one day of impressions, published whole or not at all."""
