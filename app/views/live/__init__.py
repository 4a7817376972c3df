"""The Live page: one run while it trains, or as it ended."""
