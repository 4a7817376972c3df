"""The Live page: one run as it trains, or as it ended."""
