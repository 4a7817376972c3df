"""Control of a run while it trains: requests, the device slot, stops inside long work and the memory guard."""
