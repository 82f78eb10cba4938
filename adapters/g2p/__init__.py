"""G2P Connect, spoken as a server: partners pay through the hub."""
