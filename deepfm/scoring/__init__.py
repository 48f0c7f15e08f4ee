"""Apply a registered model to one day of impressions and publish the day atomically."""
