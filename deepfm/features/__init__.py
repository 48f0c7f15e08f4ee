"""Raw click logs to ids: what is read, what is set aside, what counts learn and how they are applied."""
