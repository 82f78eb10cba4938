"""How things are said elsewhere: declarative dialect files and the engine that compiles them."""
