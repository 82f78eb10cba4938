"""The DCI registry interface, spoken as a server: civil registries notify vital events."""
