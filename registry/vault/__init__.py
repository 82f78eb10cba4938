"""The vault: keys, cipher and blind index."""
