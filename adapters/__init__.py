"""How others talk to the hub: HTTP applications, console and command line."""
