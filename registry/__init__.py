"""What the hub holds: storage, vault, audit and the people store."""
