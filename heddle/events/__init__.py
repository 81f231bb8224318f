"""Facts from the data plane, typed."""
